"""Which rows a filter chooses: an immutable view of all metadata that follows the log. Knows no SQL and no vectors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from service.filter import Between, Every, Filter, Kind, Not, Some
from service.index.postings import Mask, Postings
from service.index.segment import RowArray

SMALLEST_SEGMENT = 1_024
"""Rows that are indexed anew with every change, before they become a segment of their own."""
GROWTH = 4
"""A segment is merged with the one before unless that is so many times as long: few segments, and few merges a row."""
DEAD_SHARE = 4
"""A segment is written anew when more than a quarter of its rows are dead."""


class FilterSegment(NamedTuple):
    """A run of rows with the postings of their metadata."""

    rows: RowArray
    """Ascending: slot i of the postings is rows[i]."""
    postings: Postings
    live: Mask

    @classmethod
    def of(cls, metadata: Mapping[int, Mapping[str, Any]]) -> "FilterSegment":
        """The segment of some rows."""
        rows = sorted(metadata)
        postings = Postings.of(metadata[row] for row in rows)
        return cls(np.array(rows, np.int64), postings, np.ones(len(rows), np.bool_))

    def without(self, rows: RowArray) -> "FilterSegment":
        """The same segment with `rows` dead."""
        slots = np.searchsorted(self.rows, rows)
        rows, slots = rows[slots < len(self.rows)], slots[slots < len(self.rows)]
        here = slots[self.rows[slots] == rows]
        if not len(here):
            return self
        live = self.live.copy()
        live[here] = False
        return self._replace(live=live)

    def chosen(self, wanted: Filter) -> Mask:
        """(n,) the live slots that the filter chooses."""
        return _mask(wanted, self.postings) & self.live


@dataclass(frozen=True)
class FilterView:
    """A row is live in one segment at most; the last one is small and the earlier ones grow."""

    applied_seq: int
    segments: tuple[FilterSegment, ...]
    fresh: Mapping[int, Mapping[str, Any]]
    """The metadata of the last segment's rows, from which it is made anew."""

    @classmethod
    def of(cls, seq: int, rows: Sequence[int], metadata: Iterable[Mapping[str, Any]]) -> "FilterView":
        """A view of ascending rows and the metadata of each; `rows` may be filled while the metadata is read."""
        postings = Postings.of(metadata)
        whole = FilterSegment(np.array(rows, np.int64), postings, np.ones(len(rows), np.bool_))
        return cls(seq, (whole, FilterSegment.of({})), {})

    @property
    def ram_bytes(self) -> int:
        """Of rows, postings and bitmaps."""
        return sum(part.rows.nbytes + part.live.nbytes + part.postings.ram_bytes for part in self.segments)

    def applied(self, seq: int, changed: Mapping[int, Mapping[str, Any]], removed: RowArray) -> "FilterView":
        """The view after the log up to `seq`: rows that are new or have new metadata, and rows that are gone."""
        if not changed and not len(removed):
            return FilterView(seq, self.segments, self.fresh)
        gone = np.union1d(removed, np.array(list(changed), np.int64))
        gone_rows = set(removed.tolist())
        fresh = {row: held for row, held in {**self.fresh, **changed}.items() if row not in gone_rows}
        older = [segment.without(gone) for segment in self.segments[:-1]]
        if len(fresh) <= SMALLEST_SEGMENT:
            return FilterView(seq, (*_settled(older), FilterSegment.of(fresh)), fresh)
        return FilterView(seq, (*_settled([*older, FilterSegment.of(fresh)]), FilterSegment.of({})), {})

    def rows(self, wanted: Filter) -> RowArray:
        """(r,) the rows that the filter chooses, in no order."""
        return np.concatenate([segment.rows[segment.chosen(wanted)] for segment in self.segments])

    def counts(self, path: str, kind: Kind, wanted: Filter) -> dict[Any, int]:
        """How many of the chosen rows have each value of the path."""
        counts: dict[Any, int] = {}
        for segment in self.segments:
            for value, count in segment.postings.counts(path, kind, segment.chosen(wanted)).items():
                counts[value] = counts.get(value, 0) + count
        return counts


def _mask(wanted: Filter, postings: Postings) -> Mask:
    match wanted:
        case Between():
            return postings.mask([wanted])
        case Every(parts):
            return reduce(np.logical_and, (_mask(part, postings) for part in parts), np.ones(postings.size, np.bool_))
        case Some(parts):
            mask = postings.mask([part for part in parts if isinstance(part, Between)])
            others = (_mask(part, postings) for part in parts if not isinstance(part, Between))
            return reduce(np.logical_or, others, mask)
        case Not(part):
            return np.logical_not(_mask(part, postings))


def _settled(segments: list[FilterSegment]) -> list[FilterSegment]:
    """The segments with those merged that are too short beside the next, or too dead."""
    done: list[FilterSegment] = []
    for segment in segments:
        parts = [segment]
        while done and len(done[-1].rows) < GROWTH * sum(len(part.rows) for part in parts):
            parts.insert(0, done.pop())
        dead = len(segment.rows) - int(segment.live.sum())
        if len(parts) > 1 or DEAD_SHARE * dead > len(segment.rows):
            segment = _merged(parts)
        done.append(segment)
    return done


def _merged(parts: list[FilterSegment]) -> FilterSegment:
    rows = np.sort(np.concatenate([part.rows[part.live] for part in parts]))
    places = [np.where(part.live, np.searchsorted(rows, part.rows), -1) for part in parts]
    postings = Postings.merged([part.postings for part in parts], places, len(rows))
    return FilterSegment(rows, postings, np.ones(len(rows), np.bool_))
