"""An inverted index of metadata: for each path and kind the values in order, and the slots of each value.

Knows no row ids, no filter's logic and no SQL. A range of values is one range of slots, an equality a short one.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.filter import Between, Kind, instant

Slots = NDArray[np.uint32]
Values: TypeAlias = "list[Any] | array[float]"
"""Ascending, each once; numbers are float64 where that is exact, and come out as Python's, which compare exactly."""
Mask = NDArray[np.bool_]


class Column(NamedTuple):
    """The values of one path and kind."""

    values: Values
    """(v,)"""
    begins: NDArray[np.int64]
    """(v + 1,) where each value's slots begin."""
    slots: Slots

    @classmethod
    def of(cls, values: list[Any], codes: NDArray[np.int64], slots: Slots) -> "Column":
        """The column of entries (codes[i], slots[i]), where a code is a value's place in ascending `values`."""
        sizes = np.bincount(codes, minlength=len(values))
        used = np.flatnonzero(sizes)
        if len(used) < len(values):
            values = [values[place] for place in used]
        order = np.argsort(codes, kind="stable")
        return cls(_compact(values), np.concatenate(([0], np.cumsum(sizes[used]))), slots[order])

    @property
    def codes(self) -> NDArray[np.int64]:
        """The value's place of each slot."""
        return np.repeat(np.arange(len(self.values)), np.diff(self.begins))

    def between(self, wanted: Between) -> Slots:
        """The slots of the values within the bounds."""
        find_low = bisect_left if wanted.with_low else bisect_right
        find_high = bisect_right if wanted.with_high else bisect_left
        first = 0 if wanted.low is None else find_low(self.values, wanted.low)
        last = len(self.values) if wanted.high is None else find_high(self.values, wanted.high)
        return self.slots[self.begins[first] : self.begins[max(first, last)]]


class Postings:
    """Immutable, over slots 0..n-1."""

    def __init__(self, size: int, columns: Mapping[tuple[str, Kind], Column]) -> None:
        self.size = size
        self._columns = columns

    @classmethod
    def of(cls, items: Iterable[Mapping[str, Any]]) -> "Postings":
        """The postings of items' metadata; an item's slot is its place."""
        drafts: dict[tuple[str, Kind], _Draft] = {}
        size = 0
        for slot, metadata in enumerate(items):
            size = slot + 1
            for path, kind, value in set(_leaves(metadata, "")):
                draft = drafts.get((path, kind))
                if draft is None:
                    draft = drafts[path, kind] = _Draft()
                draft.add(value, slot)
        return cls(size, {key: draft.column() for key, draft in drafts.items()})

    @classmethod
    def merged(cls, parts: Sequence["Postings"], places: Sequence[NDArray[np.int64]], size: int) -> "Postings":
        """The postings of several, where slot i of part p becomes places[p][i], or goes where that is -1."""
        columns: dict[tuple[str, Kind], Column] = {}
        for key in {key for part in parts for key in part._columns}:
            having = [
                (part._columns[key], place) for part, place in zip(parts, places, strict=True) if key in part._columns
            ]
            values = sorted(set().union(*(_plain(column.values) for column, _ in having)))
            ranks = {value: rank for rank, value in enumerate(values)}
            codes, slots = [], []
            for column, place in having:
                moved = place[column.slots]
                keep = moved >= 0
                own = np.array([ranks[value] for value in _plain(column.values)], np.int64)
                codes.append(own[column.codes[keep]])
                slots.append(moved[keep].astype(np.uint32))
            if any(map(len, slots)):
                columns[key] = Column.of(values, np.concatenate(codes), np.concatenate(slots))
        return cls(size, columns)

    def mask(self, wanted: Iterable[Between]) -> Mask:
        """(n,) the slots that have a value within the bounds of any of `wanted`."""
        mask = np.zeros(self.size, np.bool_)
        for bounds in wanted:
            column = self._columns.get((bounds.path, bounds.kind))
            if column is not None:
                mask[column.between(bounds)] = True
        return mask

    def counts(self, path: str, kind: Kind, mask: Mask) -> dict[Any, int]:
        """How many slots of the mask have each value of the path."""
        column = self._columns.get((path, kind))
        if column is None:
            return {}
        sizes = np.add.reduceat(mask[column.slots].astype(np.int64), column.begins[:-1])
        there = np.flatnonzero(sizes)
        values = _plain(column.values)
        return {values[place]: int(sizes[place]) for place in there.tolist()}

    @property
    def ram_bytes(self) -> int:
        """Bytes of slots and places, and about as many as Python takes for the values."""
        total = 0
        for column in self._columns.values():
            total += column.slots.nbytes + column.begins.nbytes
            if isinstance(column.values, array):
                total += 8 * len(column.values)
            else:
                total += sum(64 + len(str(value)) for value in column.values)
        return total


class _Draft:
    """A column in the making: entries in the order of slots."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self._entries = array("I")
        self._slots = array("I")

    def add(self, value: Any, slot: int) -> None:
        self._entries.append(self._codes.setdefault(value, len(self._codes)))
        self._slots.append(slot)

    def column(self) -> Column:
        values = sorted(self._codes)
        ranks = np.empty(len(values), np.int64)
        ranks[[self._codes[value] for value in values]] = np.arange(len(values))
        entries = ranks[np.frombuffer(self._entries, np.uint32)]
        return Column.of(values, entries, np.frombuffer(self._slots, np.uint32))


def _compact(values: list[Any]) -> Values:
    """Numbers as float64 where that is exact; 64-bit ids are not, and stay as they are."""
    if type(values[0]) not in (int, float):
        return values
    try:
        floats = array("d", values)
    except OverflowError:  # longer than any float
        return values
    return floats if floats.tolist() == values else values


def _plain(values: Values) -> list[Any]:
    return values.tolist() if isinstance(values, array) else values


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Kind, Any]]:
    """Every value of nested metadata with its path; a list's elements share their list's."""
    if path:
        yield path, Kind.PRESENT, True
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    elif isinstance(value, bool):
        yield path, Kind.BOOLEAN, value
    elif isinstance(value, int | float):
        yield path, Kind.NUMBER, value
    elif isinstance(value, str):
        yield path, Kind.STRING, value
        if (moment := instant(value)) is not None:
            yield path, Kind.DATE, moment
    elif value is None:
        yield path, Kind.NULL, True
