"""What one process searches of a collection: an immutable base, a small tail, and how far they follow the log.

Knows no SQL, no HTTP and no log: it is handed arrays, and every change makes a new view.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Neighbours, ResidualCodec, Scores, Vectors, merged
from service.index.look import Look, Over, never
from service.index.segment import IndexKind, RowArray, Segment

SMALLEST_TAIL = 4_096
"""Rows that the tail may hold however small the base is."""
TAIL_SHARE = 16
"""The tail is folded into the base when it is more than a sixteenth of it."""
DEAD_SHARE = 4
"""Dead rows are dropped when they are more than a quarter."""
BUCKET_SHARE = 10
"""A bucket search scores at most one in this many codes, counted with those that a filter leaves out,"""
FEWEST_CANDIDATES = 256
"""but never fewer than this."""


@dataclass(frozen=True)
class View:
    """Rows ascend through base and tail."""

    generation_id: int | None
    codec: Codec
    applied_seq: int
    base: Segment
    tail: Segment

    @classmethod
    def of(cls, generation_id: int | None, codec: Codec, seq: int, rows: RowArray, codes: Codes) -> "View":
        """A view with all rows in its base."""
        return cls.over(generation_id, seq, Segment.of(codec, rows, codes))

    @classmethod
    def over(cls, generation_id: int | None, seq: int, base: Segment) -> "View":
        """A view of one segment, which may be a mapped one."""
        tail = Segment.of(base.codec, np.empty(0, np.int64), np.empty((0, base.codec.code_bytes), np.uint8))
        return cls(generation_id, base.codec, seq, base, tail)

    def __contains__(self, row: int | None) -> bool:
        return row is not None and (row in self.base or row in self.tail)

    def __len__(self) -> int:
        return self.base.live_count + self.tail.live_count

    @property
    def ram_bytes(self) -> int:
        """Bytes of base and tail, without the codec."""
        return self.base.ram_bytes + self.tail.ram_bytes

    @property
    def mapped_bytes(self) -> int:
        """Those of them that are in a file."""
        return self.base.mapped_bytes + self.tail.mapped_bytes

    @property
    def hashed(self) -> bool:
        """Whether its base has hash tables: somebody has searched by them, and they are kept along."""
        return self.base.buckets.known

    @property
    def scored(self) -> bool:
        """Whether the scores of a shortlist are the codec's own, as `scores` has them."""
        return isinstance(self.codec, ResidualCodec)

    def live_rows(self) -> RowArray:
        """(len(self),), ascending."""
        return np.concatenate([segment.rows[segment.live_slots()] for segment in (self.base, self.tail)])

    def applied(self, seq: int, added: RowArray, codes: Codes, removed: RowArray) -> "View":
        """The view after the log up to `seq`: `added` rows, above all others and ascending, and `removed` ones."""
        tail = self.tail
        if len(added):
            keep = tail.live_slots()
            rows, codes = np.concatenate((tail.rows[keep], added)), np.concatenate((tail.codes[keep], codes))
            tail = Segment.of(self.codec, rows, codes, tail.buckets.carried(keep, codes), tail.squares(keep))
        base, tail = self.base.without(removed), tail.without(removed)
        dead = len(base) - base.live_count
        if len(tail) > max(SMALLEST_TAIL, len(base) // TAIL_SHARE) or DEAD_SHARE * dead > len(base) + SMALLEST_TAIL:
            first, second = base.live_slots(), tail.live_slots()
            rows = np.concatenate((base.rows[first], tail.rows[second]))
            codes = np.concatenate((base.codes[first], tail.codes[second]))
            known, others = base.squares(first), tail.squares(second)
            squares = None if known is None or others is None else np.concatenate((known, others))
            whole = Segment.of(self.codec, rows, codes, base.buckets.carried(first, codes), squares)
            return View.over(self.generation_id, seq, whole)
        return View(self.generation_id, self.codec, seq, base, tail)

    def only(self, rows: RowArray) -> "View":
        """The same view with every other row dead: what a filtered search looks into."""
        return View(self.generation_id, self.codec, self.applied_seq, self.base.only(rows), self.tail.only(rows))

    def holds(self, rows: RowArray) -> NDArray[np.bool_]:
        """(r,) whether each row, in any order, is live."""
        return self.base.holds(rows) | self.tail.holds(rows)

    def search(self, queries: Vectors, k: int, kind: IndexKind, share: float = 1) -> Neighbours:
        """(q, D) queries to a shortlist: the best k live rows of each, best first, -1 where there are no more.

        `share` of the codes are looked at by FAISS where they stand in lists.
        """
        if kind is IndexKind.BUCKETS:
            return self.probed(queries, k).neighbours
        k = max(1, min(k, len(self)))
        parts = [
            segment.search(queries, k, share)
            for segment in (self.base, self.tail)
            if segment.live_count or segment is self.base
        ]
        return merged(parts, k) if len(parts) > 1 else parts[0]

    def probed(self, queries: Vectors, k: int, probes: int | None = None, over: Over = never) -> Look:
        """The same by the buckets: those that hold `most_scored` codes, or `probes` of them, one at least of base and
        tail each. Stops when the time is over.
        """
        k = max(1, min(k, len(self)))
        segments = [segment for segment in (self.base, self.tail) if segment.live_count]
        if not segments:
            return Look.nothing(len(queries), k)
        budget = self.most_scored(k, IndexKind.BUCKETS)
        shares = [probes] * len(segments)
        if probes is not None and len(segments) > 1:
            base, tail = (segment.buckets.buckets for segment in segments)
            least = max(1, min(probes, base + tail) * tail // (base + tail))
            shares = [max(1, probes - least), least]
        looks = [
            segment.probed(queries, k, -(-budget * segment.live_count // len(self)), share, over)
            for segment, share in zip(segments, shares, strict=True)
        ]
        return Look.of(looks, k)

    def most_scored(self, k: int, kind: IndexKind, share: float = 1) -> int:
        """Codes that a query for k rows is compared with, about."""
        if kind is not IndexKind.BUCKETS:
            return sum(segment.scan.scanned(segment.live_count, share) for segment in (self.base, self.tail))
        return min(len(self), max(k, FEWEST_CANDIDATES, (len(self.base) + len(self.tail)) // BUCKET_SHARE))

    def scores(self, queries: Vectors, rows: NDArray[np.int64]) -> Scores:
        """(q, D) queries and (q, c) rows that a search of this view returned to the codec's (q, c) scores; minus
        infinity for -1.
        """
        return np.maximum(self.base.scores(queries, rows), self.tail.scores(queries, rows))

    def some_codes(self, most: int) -> Codes:
        """(n, code_bytes) codes of live rows, evenly spaced over base and tail; about `most`, or all."""
        share = min(1, most / max(1, len(self.base) + len(self.tail)))
        return np.concatenate([segment.some_codes(round(share * len(segment))) for segment in (self.base, self.tail)])

    def codes_of(self, rows: RowArray) -> Codes:
        """Codes of rows that a search of this view returned, zeros for -1. Any shape to (..., code_bytes)."""
        codes = np.zeros((*rows.shape, self.codec.code_bytes), np.uint8)
        for segment in (self.base, self.tail):
            slots = segment.slots(rows)
            here = slots >= 0
            codes[here] = segment.codes[slots[here]]
        return codes
