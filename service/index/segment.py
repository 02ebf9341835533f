"""A run of rows with their codes and indexes. Knows no log, no collection and no SQL."""

from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Neighbours, ResidualCodec, Scores, SparseSpace, Vectors
from service.index.additive import AdditiveIndex
from service.index.buckets import BucketIndex
from service.index.faiss import FaissIndex
from service.index.listed import ListedCodes
from service.index.look import Look, Over, never
from service.index.sparse import SparseIndex

RowArray = NDArray[np.int64]
"""(n,) row ids, ascending."""


SPARSE = 16
"""A table of row ids is used where they span at most so many times their number."""
BLOCK = 65_536
"""Rows looked up in it at once: their places are half a megabyte of memory that is there, and not eight bytes a row of
new pages at every filtered search."""


class IndexKind(StrEnum):
    """What finds the shortlist."""

    FAISS = "faiss"
    """FAISS scans the codes: a share of them, where they stand in lists."""
    BUCKETS = "buckets"
    """The codes of the nearest hash buckets are scored."""
    EXACT = "exact"
    """The original vectors, all of them."""


Scan = FaissIndex | AdditiveIndex | SparseIndex


def scan_of(codec: Codec) -> type[FaissIndex] | type[AdditiveIndex] | type[SparseIndex]:
    """The index that scans this codec's codes."""
    if isinstance(codec, ResidualCodec):
        return AdditiveIndex
    return SparseIndex if isinstance(codec.space, SparseSpace) else FaissIndex


class Segment:
    """Immutable: rows ascending, the code of each, and a bitmap of those that are still live.

    The position of a row is its slot. A segment without some rows shares everything but the bitmap with the old one.
    """

    def __init__(
        self, rows: RowArray, scan: Scan, folder: Path | None = None, buckets: BucketIndex | None = None
    ) -> None:
        self.codec = scan.codec
        self.folder = folder
        """Whose files it maps; none where it is in RAM."""
        self.rows = rows
        self.scan = scan
        self.live = np.packbits(np.ones(len(rows), np.bool_), bitorder="little")
        self.live_count = len(rows)
        self.buckets = BucketIndex(scan) if buckets is None else buckets

    @classmethod
    def of(
        cls,
        codec: Codec,
        rows: RowArray,
        codes: Codes,
        keys: NDArray[np.uint16] | None = None,
        squares: Scores | None = None,
    ) -> "Segment":
        """The segment of (n,) rows with (n, code_bytes) codes, which it copies into RAM. What is known of them need not
        be worked out: the (n, tables) keys of their buckets, and the squared lengths of the first codes that add up.
        """
        scan = scan_of(codec)(codec, codes) if squares is None else AdditiveIndex(codec, codes, squares)
        return cls(rows, scan, buckets=BucketIndex(scan, keys))

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, row: int) -> bool:
        """Whether the row is here and live."""
        return bool(self.holds(np.array([row]))[0])

    @property
    def codes(self) -> Codes | ListedCodes:
        """(n, code_bytes) by slot, live or not."""
        return self.scan.codes

    @property
    def ram_bytes(self) -> int:
        """Codes, row ids, bitmap and whatever tables are built."""
        return self.scan.ram_bytes + self.buckets.ram_bytes + self.rows.nbytes + self.live.nbytes

    @property
    def mapped_bytes(self) -> int:
        """Those of them that are in a file, whose pages all processes that map it share."""
        return 0 if self.folder is None else self.scan.mapped_bytes + self.rows.nbytes + self.buckets.mapped_bytes

    def slots(self, rows: RowArray) -> NDArray[np.int64]:
        """Where rows stand; -1 for those that are not here. Any shape."""
        if not len(self):
            return np.full(rows.shape, -1, np.int64)
        slots = np.minimum(np.searchsorted(self.rows, rows), len(self) - 1)
        return np.where(self.rows[slots] == rows, slots, -1)

    def holds(self, rows: RowArray) -> NDArray[np.bool_]:
        """(r,) whether each row, in any order, is here and live."""
        if not len(self):
            return np.zeros(len(rows), np.bool_)
        slots = self.slots(rows)
        return (slots >= 0) & self._live(slots)

    def without(self, rows: RowArray) -> "Segment":
        """The same segment with `rows` dead; itself where none of them is here and live."""
        alive = self._alive()
        slots = self.slots(rows)
        slots = slots[slots >= 0]
        slots = slots[alive[slots]]
        if not len(slots):
            return self
        alive[slots] = False
        return self._with(alive)

    def only(self, rows: RowArray) -> "Segment":
        """The same segment with every other row dead; `rows` in any order."""
        if not len(self):
            return self
        first, span = self.rows[0], int(self.rows[-1] - self.rows[0]) + 1
        if span > SPARSE * len(self):
            chosen = np.zeros(len(self), np.bool_)
            slots = self.slots(rows)
            chosen[slots[slots >= 0]] = True
            return self._with(self._alive() & chosen)
        # Row ids are nearly consecutive: a table of them is faster than looking up each of half a million.
        table = np.zeros(span, np.bool_)
        table[rows[(rows >= first) & (rows < first + span)] - first] = True
        alive = self._alive()
        for start in range(0, len(self), BLOCK):
            alive[start : start + BLOCK] &= table[self.rows[start : start + BLOCK] - first]
        return self._with(alive)

    def squares(self, slots: NDArray[np.int64]) -> Scores | None:
        """(s,) squared lengths of codes that add up; none of others, which have no need of them."""
        return self.scan.squares[slots] if isinstance(self.scan, AdditiveIndex) else None

    def some_codes(self, most: int) -> Codes:
        """(n, code_bytes) codes of the live among `most` evenly spaced slots."""
        slots = np.linspace(0, len(self) - 1, most).astype(np.int64)  # of none where there are none
        return self.codes[slots[self._live(slots)]]

    def live_slots(self) -> NDArray[np.int64]:
        """Slots of the live rows, ascending."""
        return np.flatnonzero(self._alive())

    def _live(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (self.live[slots // 8] >> (slots % 8) & 1).astype(np.bool_)

    def _alive(self) -> NDArray[np.bool_]:
        return np.unpackbits(self.live, count=len(self), bitorder="little").view(np.bool_)

    def _with(self, alive: NDArray[np.bool_]) -> "Segment":
        """Everything is shared but the bitmap."""
        lesser = object.__new__(Segment)
        lesser.__dict__.update(self.__dict__)
        lesser.live = np.packbits(alive, bitorder="little")
        lesser.live_count = int(np.count_nonzero(alive))
        return lesser

    def search(self, queries: Vectors, k: int, share: float = 1) -> Neighbours:
        """(q, D) queries to the best k live rows of each by latents, as FAISS finds them; `share` is what it looks at
        where codes stand in lists.
        """
        if not self.live_count:
            return Neighbours(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
        return self._by_row(self.scan.search(queries, k, self.live, share))

    def probed(self, queries: Vectors, k: int, candidates: int, probes: int | None = None, over: Over = never) -> Look:
        """(q, D) queries to the best k live rows of each by latents, as the buckets find them: see BucketIndex.

        At least one row must be live.
        """
        look = self.buckets.search(queries, k, self.live, candidates, probes, over)
        return look._replace(neighbours=self._by_row(look.neighbours))

    def _by_row(self, found: Neighbours) -> Neighbours:
        return Neighbours(np.where(found.rows >= 0, self.rows[found.rows], -1), found.scores)

    def scores(self, queries: Vectors, rows: NDArray[np.int64]) -> Scores:
        """(q, D) queries and (q, c) rows to the codec's (q, c) scores; minus infinity for rows that are not here."""
        slots = self.slots(rows)
        if not (slots >= 0).any():
            return np.full(rows.shape, -np.inf, np.float32)
        return self.scan.scores(queries, slots)
