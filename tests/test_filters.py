"""The view that filters look into chooses what the definition of each operator says, after any sequence of changes."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.filter import Kind, parsed
from service.index import filters as filters_module
from service.index.filters import FilterView

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.5, 2.0, 2**53 + 1, 2**53, 10**400]),
    st.sampled_from(["", "a", "b", "2026-01-31", "2026-01-31T00:00:00+00:00", "2025-12-31"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.fixed_dictionaries({}, optional={"b": SCALARS}))
METADATA = st.fixed_dictionaries({}, optional={"a": VALUES, "a.b": SCALARS, "c": VALUES})
PATHS = st.sampled_from(["a", "a.b", "c", "c.b", "none"])
OPERANDS = st.one_of(SCALARS, st.sampled_from([{"$date": "2026-01-31"}, {"$date": "2026-01-01"}]))
ORDERED = OPERANDS.filter(lambda value: value is not None and not isinstance(value, bool))
CONDITIONS = st.one_of(
    st.builds(lambda name, value: {name: value}, st.sampled_from(["$eq", "$ne"]), OPERANDS),
    st.builds(lambda name, value: {name: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED),
    st.builds(lambda name, value: {name: value}, st.sampled_from(["$in", "$nin"]), st.lists(OPERANDS, max_size=3)),
    st.builds(lambda value: {"$exists": value}, st.booleans()),
)
FILTERS = st.recursive(
    st.dictionaries(PATHS, st.one_of(CONDITIONS, SCALARS), max_size=2),
    lambda inner: st.one_of(
        st.builds(
            lambda name, parts: {name: parts}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=4,
)


def values_at(metadata: Any, path: str) -> list[Any]:
    """Every value at a path, a list's elements after it; a key may have dots of its own."""
    if isinstance(metadata, list):
        return [value for inner in metadata for value in values_at(inner, path)]
    if not isinstance(metadata, dict):
        return []
    found = []
    for key, value in metadata.items():
        if key == path:
            found += [value, *value] if isinstance(value, list) else [value]
        elif path.startswith(f"{key}."):
            found += values_at(value, path.removeprefix(f"{key}."))
    return found


def comparable(value: Any, operand: Any) -> Any:
    """The value as what the operand is compared with; none where they are of different kinds."""
    if isinstance(operand, dict):
        try:
            moment = datetime.fromisoformat(value if isinstance(value, str) and len(value) >= 10 else "no")
        except ValueError:
            return None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    same = type(value) is type(operand) or {type(value), type(operand)} == {int, float}
    return value if same else None


def holds(name: str, operand: Any, values: list[Any]) -> bool:
    """One operator by its definition."""
    if name in ("$ne", "$nin"):
        return not holds("$eq" if name == "$ne" else "$in", operand, values)
    if name == "$in":
        return any(holds("$eq", one, values) for one in operand)
    if name == "$exists":
        return bool(values) is operand
    if name == "$eq" and operand is None:
        return not values or None in values
    against = datetime.fromisoformat(operand["$date"]).replace(tzinfo=UTC) if isinstance(operand, dict) else operand
    for value in values:
        mine = comparable(value, operand)
        if mine is not None and {
            "$eq": lambda a, b: a == b,
            "$gt": lambda a, b: a > b,
            "$gte": lambda a, b: a >= b,
            "$lt": lambda a, b: a < b,
            "$lte": lambda a, b: a <= b,
        }[name](mine, against):
            return True
    return False


def chooses(wanted: Any, metadata: Any) -> bool:
    """A filter by its definition."""
    for key, condition in wanted.items():
        if key in ("$and", "$or"):
            parts = [chooses(part, metadata) for part in condition]
            right = all(parts) if key == "$and" else any(parts)
        elif key == "$not":
            right = not chooses(condition, metadata)
        else:
            operators = condition if isinstance(condition, dict) else {"$eq": condition}
            right = all(holds(name, operand, values_at(metadata, key)) for name, operand in operators.items())
        if not right:
            return False
    return True


@settings(max_examples=300)
@given(st.lists(METADATA, min_size=1, max_size=6), FILTERS)
def test_every_operator_chooses_by_its_definition(items: list[Any], wanted: Any) -> None:
    view = FilterView.of(0, range(1, len(items) + 1), items)
    expected = [row for row, metadata in enumerate(items, 1) if chooses(wanted, metadata)]
    assert sorted(view.rows(parsed(wanted)).tolist()) == expected


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.lists(METADATA, max_size=6), st.integers(0, 4), st.integers(0, 4)), max_size=8),
    FILTERS,
    st.integers(0, 1000),
)
def test_any_sequence_of_changes_equals_one_view(
    steps: list[tuple[list[Any], int, int]], wanted: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:  # small limits, so that segments are merged within a few steps
        patch.setattr(filters_module, "SMALLEST_SEGMENT", 3)
        view, kept, next_row = FilterView.of(0, [], []), dict[int, Any](), 1
        for seq, (added, touched, removed) in enumerate(steps, 1):
            gone = rng.permutation(sorted(kept))[:removed].astype(np.int64)
            kept = {row: metadata for row, metadata in kept.items() if row not in gone}
            changed: dict[int, Any] = {int(row): {"c": f"new {seq}"} for row in rng.permutation(sorted(kept))[:touched]}
            for metadata in added:
                changed[next_row] = metadata
                next_row += 1
            kept |= changed
            before, rows = view, sorted(view.rows(parsed(wanted)).tolist())
            view = view.applied(seq, changed, gone)
            assert sorted(before.rows(parsed(wanted)).tolist()) == rows
            assert view.applied_seq == seq
    assert sorted(view.rows(parsed({})).tolist()) == sorted(kept)
    expected = [row for row, metadata in sorted(kept.items()) if chooses(wanted, metadata)]
    assert sorted(view.rows(parsed(wanted)).tolist()) == expected
    counts = Counter(
        value for row in expected for value in set(filter(lambda v: isinstance(v, str), values_at(kept[row], "c")))
    )
    assert view.counts("c", Kind.STRING, parsed(wanted)) == counts


def test_segments_stay_few_and_the_dead_are_dropped() -> None:
    view = FilterView.of(0, [], [])
    for step in range(60):
        first = 1 + 1_500 * step
        view = view.applied(step, {row: {"n": row % 7} for row in range(first, first + 1_500)}, np.empty(0, np.int64))
    assert len(view.segments) <= 6
    assert len(view.rows(parsed({"n": 3}))) == sum(row % 7 == 3 for row in range(1, 90_001))
    view = view.applied(61, {}, np.arange(1, 70_001))
    assert sum(len(segment.rows) for segment in view.segments) < 27_000
    assert sorted(view.rows(parsed({"n": 3})).tolist()) == [row for row in range(70_001, 90_001) if row % 7 == 3]


def test_json_goes_in_as_it_is_stored() -> None:
    big = json.loads('{"id": 9007199254740993, "at": "2026-01-31T10:00:00Z"}')
    view = FilterView.of(0, [1, 2], [big, {"id": 9007199254740992}])
    assert view.rows(parsed({"id": 9007199254740993})).tolist() == [1]
    assert view.rows(parsed({"id": {"$lt": 9007199254740993}})).tolist() == [2]
    assert view.rows(parsed({"at": {"$lt": {"$date": "2026-01-31T11:00:00+01:00"}}})).tolist() == []
    assert view.rows(parsed({"at": {"$lte": {"$date": "2026-01-31T11:00:00+01:00"}}})).tolist() == [1]
