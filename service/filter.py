"""What a filter over metadata says: its grammar, in the operators that users of MongoDB, Chroma and Pinecone know.

Knows no index, no SQL and no HTTP. A path names nested keys with dots; a list has the values of its elements.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from service.errors import InvalidInput

DEEPEST = 32
"""Levels of $and, $or and $not."""
MOST_CONDITIONS = 1_000
MOST_VALUES = 10_000
"""In all of a filter's $in and $nin."""
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")


class Kind(StrEnum):
    """What a value is compared as: values of different kinds are neither equal nor in order."""

    NUMBER = "number"
    STRING = "string"
    BOOLEAN = "boolean"
    DATE = "date"
    NULL = "null"
    PRESENT = "present"
    """Whatever it is: it is there."""


Value = int | float | str | bool


@dataclass(frozen=True)
class Between:
    """A value of the kind at `path` from `low` to `high`; none is no bound. An equality has both bounds the same."""

    path: str
    kind: Kind
    low: Value | None = None
    high: Value | None = None
    with_low: bool = True
    with_high: bool = True


@dataclass(frozen=True)
class Every:
    """Every part holds; none is no condition."""

    parts: tuple["Filter", ...] = ()


@dataclass(frozen=True)
class Some:
    """At least one part holds."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Filter"


Filter = Between | Every | Some | Not


def parsed(given: Any, field: str = "filter") -> Filter:
    """The filter of a request.

    Raises:
        InvalidInput: naming the place in the filter, and what would be accepted there.
    """
    return _Parser().filter(given, field, 0)


def equal(path: str, value: Value) -> Filter:
    """That a value at the path is this one."""
    kind, comparable = _typed(value, path)
    return Between(path, kind, comparable, comparable)


def instant(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 date or time, in UTC where it names no zone; none where it is no date."""
    if not DATE.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


class _Parser:
    """Counts conditions, so that no filter takes the server's time by its length."""

    def __init__(self) -> None:
        self._conditions = self._values = 0
        self._operators: dict[str, Callable[[str, Any, str], Filter]] = {
            "$eq": self._equal,
            "$ne": lambda path, operand, field: Not(self._equal(path, operand, field)),
            "$gt": lambda path, operand, field: self._bound(path, operand, field, low=True, closed=False),
            "$gte": lambda path, operand, field: self._bound(path, operand, field, low=True, closed=True),
            "$lt": lambda path, operand, field: self._bound(path, operand, field, low=False, closed=False),
            "$lte": lambda path, operand, field: self._bound(path, operand, field, low=False, closed=True),
            "$in": self._one_of,
            "$nin": lambda path, operand, field: Not(self._one_of(path, operand, field)),
            "$exists": self._exists,
        }

    def filter(self, given: Any, field: str, depth: int) -> Filter:
        """{"path": condition, "$and": [...], ...}: all of them hold."""
        if depth > DEEPEST:
            raise InvalidInput(f"a filter is nested at most {DEEPEST} levels deep", field=field)
        if not isinstance(given, Mapping):
            raise InvalidInput('a filter is an object such as {"year": {"$gte": 2020}}', field=field)
        return _all([self._part(key, value, f"{field}.{key}", depth) for key, value in given.items()])

    def _part(self, key: str, given: Any, field: str, depth: int) -> Filter:
        if key in ("$and", "$or"):
            if not isinstance(given, list) or not given:
                raise InvalidInput(f"{key} takes a list of one filter or more", field=field)
            parts = [self.filter(part, f"{field}[{place}]", depth + 1) for place, part in enumerate(given)]
            return _all(parts) if key == "$and" else Some(tuple(parts))
        if key == "$not":
            return Not(self.filter(given, field, depth + 1))
        if key.startswith("$"):
            raise InvalidInput(f"there is no {key} here; there are $and, $or, $not and paths of metadata", field=field)
        return self._path(key, given, field, depth)

    def _path(self, path: str, given: Any, field: str, depth: int) -> Filter:
        if not isinstance(given, Mapping) or "$date" in given:
            return self._equal(path, given, field)
        if not given or not all(name.startswith("$") for name in given):
            raise InvalidInput(
                'compare with operators such as {"$eq": 1}; a nested key is named by its path, "outer.inner"',
                field=field,
            )
        parts: list[Filter] = []
        for name, operand in given.items():
            if name == "$not":
                if depth > DEEPEST or not isinstance(operand, Mapping):
                    raise InvalidInput('$not takes operators, such as {"$gt": 3}', field=f"{field}.$not")
                parts.append(Not(self._path(path, operand, f"{field}.$not", depth + 1)))
            elif name in self._operators:
                parts.append(self._operators[name](path, operand, f"{field}.{name}"))
            else:
                known = ", ".join([*self._operators, "$not"])
                raise InvalidInput(f"there is no operator {name!r}; there are {known}", field=f"{field}.{name}")
        return _all(parts)

    def _equal(self, path: str, given: Any, field: str) -> Filter:
        self._count(field)
        return self._same(path, given, field)

    def _same(self, path: str, given: Any, field: str) -> Filter:
        kind, value = _typed(given, field)
        same = Between(path, kind, value, value)
        # As in MongoDB, null is also what is not there.
        return same if kind is not Kind.NULL else Some((same, Not(Between(path, Kind.PRESENT))))

    def _one_of(self, path: str, given: Any, field: str) -> Filter:
        if not isinstance(given, list):
            raise InvalidInput("it takes a list of values", field=field)
        self._count(field)
        self._values += len(given)
        if self._values > MOST_VALUES:
            raise InvalidInput(f"a filter lists at most {MOST_VALUES} values", field=field)
        return Some(tuple(self._same(path, value, f"{field}[{place}]") for place, value in enumerate(given)))

    def _bound(self, path: str, given: Any, field: str, *, low: bool, closed: bool) -> Filter:
        self._count(field)
        kind, value = _typed(given, field)
        if kind not in (Kind.NUMBER, Kind.STRING, Kind.DATE):
            raise InvalidInput('it compares numbers, strings and {"$date": "2026-01-31"}', field=field)
        return (
            Between(path, kind, low=value, with_low=closed) if low else Between(path, kind, None, value, True, closed)
        )

    def _exists(self, path: str, given: Any, field: str) -> Filter:
        self._count(field)
        if not isinstance(given, bool):
            raise InvalidInput("it takes true or false", field=field)
        there = Between(path, Kind.PRESENT)
        return there if given else Not(there)

    def _count(self, field: str) -> None:
        self._conditions += 1
        if self._conditions > MOST_CONDITIONS:
            raise InvalidInput(f"a filter has at most {MOST_CONDITIONS} conditions", field=field)


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


def _typed(given: Any, field: str) -> tuple[Kind, Value | None]:
    if given is None:
        return Kind.NULL, None
    if isinstance(given, bool):
        return Kind.BOOLEAN, given
    if isinstance(given, str):
        return Kind.STRING, given
    if isinstance(given, int) or (isinstance(given, float) and math.isfinite(given)):
        return Kind.NUMBER, given
    if isinstance(given, Mapping) and list(given) == ["$date"]:
        moment = instant(given["$date"]) if isinstance(given["$date"], str) else None
        if moment is None:
            raise InvalidInput('$date takes ISO 8601, such as "2026-01-31" or "2026-01-31T12:00:00Z"', field=field)
        return Kind.DATE, moment
    raise InvalidInput('a value is a finite number, string, boolean, null or {"$date": "2026-01-31"}', field=field)
