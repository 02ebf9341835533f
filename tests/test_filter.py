"""What a filter may say, and what is told of one that says something else."""

from typing import Any

import pytest

from service.errors import InvalidInput
from service.filter import Between, Every, Kind, Not, Some, instant, parsed


def test_the_grammar() -> None:
    assert parsed({}) == Every()
    assert parsed({"a": 1}) == parsed({"a": {"$eq": 1}}) == Between("a", Kind.NUMBER, 1, 1)
    assert parsed({"a.b": "x", "c": True}) == Every(
        (Between("a.b", Kind.STRING, "x", "x"), Between("c", Kind.BOOLEAN, True, True))
    )
    assert parsed({"a": {"$gt": 1, "$lte": 3}}) == Every(
        (Between("a", Kind.NUMBER, 1, None, with_low=False), Between("a", Kind.NUMBER, None, 3))
    )
    assert parsed({"a": {"$ne": "x"}}) == Not(Between("a", Kind.STRING, "x", "x"))
    assert parsed({"a": {"$nin": ["x"]}}) == Not(Some((Between("a", Kind.STRING, "x", "x"),)))
    assert parsed({"a": {"$not": {"$exists": True}}}) == parsed({"a": {"$exists": False}})
    assert parsed({"$or": [{"a": 1}, {"b": 2}]}) == Some(
        (Between("a", Kind.NUMBER, 1, 1), Between("b", Kind.NUMBER, 2, 2))
    )
    assert parsed({"a": {"$gte": {"$date": "2026-01-31"}}}) == Between("a", Kind.DATE, 1769817600.0)


def test_equal_filters_of_other_kinds_differ() -> None:
    assert parsed({"a": 1}) != parsed({"a": True})
    assert parsed({"a": 0}) != parsed({"a": False})


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ([], "filter", "an object"),
        ({"$nor": []}, "filter.$nor", "$and, $or, $not"),
        ({"$and": []}, "filter.$and", "one filter or more"),
        ({"$or": [{"a": 1}, 3]}, "filter.$or[1]", "an object"),
        ({"a": {}}, "filter.a", "operators"),
        ({"a": {"b": 1}}, "filter.a", "outer.inner"),
        ({"a": {"$regex": "x"}}, "filter.a.$regex", "$gt"),
        ({"a": {"$in": "x"}}, "filter.a.$in", "a list"),
        ({"a": {"$in": [1, [2]]}}, "filter.a.$in[1]", "a finite number"),
        ({"a": {"$gt": True}}, "filter.a.$gt", "numbers, strings"),
        ({"a": {"$lt": None}}, "filter.a.$lt", "numbers, strings"),
        ({"a": {"$exists": 1}}, "filter.a.$exists", "true or false"),
        ({"a": {"$not": 3}}, "filter.a.$not", "operators"),
        ({"a": float("inf")}, "filter.a", "finite"),
        ({"a": [1]}, "filter.a", "a finite number"),
        ({"a": {"$gt": {"$date": "yesterday"}}}, "filter.a.$gt", "ISO 8601"),
        ({"a": {"$in": list(range(10_001))}}, "filter.a.$in", "10000 values"),
        ({"$or": [{"a": n} for n in range(1_001)]}, "filter.$or[1000].a", "1000 conditions"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given: Any, field: str, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parsed(given)
    assert error.value.field == field
    assert said in error.value.detail


@pytest.mark.parametrize("operator", ["$and", "$not"])
def test_a_deep_filter_is_refused_and_not_followed(operator: str) -> None:
    given: Any = {"a": 1}
    for _ in range(5_000):
        given = {operator: [given] if operator == "$and" else given}
    with pytest.raises(InvalidInput, match="32 levels"):
        parsed(given)
    deep: Any = {"$gt": 3}
    for _ in range(5_000):
        deep = {"$not": deep}
    with pytest.raises(InvalidInput):
        parsed({"a": deep})


def test_dates() -> None:
    assert instant("1970-01-02") == 86400
    assert instant("1970-01-01T01:00:00Z") == instant("1970-01-01 02:00:00+01:00") == 3600
    assert instant("2026-02-30") is instant("2026") is instant("2026-01-01x") is instant("") is None
