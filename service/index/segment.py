"""A run of rows with their codes and indexes. Knows no log, no collection and no SQL."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Neighbours, SparseSpace, Vectors
from service.index.buckets import BucketIndex
from service.index.faiss import FaissIndex
from service.index.sparse import SparseIndex

RowArray = NDArray[np.int64]
"""(n,) row ids, ascending."""


class IndexKind(StrEnum):
    """What finds the shortlist."""

    FAISS = "faiss"
    """FAISS scans every code."""
    BUCKETS = "buckets"
    """The codes of the nearest hash buckets are scored."""
    EXACT = "exact"
    """The original vectors, all of them."""


def scan_of(codec: Codec) -> type[FaissIndex] | type[SparseIndex]:
    """The index that scans this codec's codes."""
    return SparseIndex if isinstance(codec.space, SparseSpace) else FaissIndex


class Segment:
    """Immutable: rows ascending, the code of each, and a bitmap of those that are still live.

    The position of a row is its slot. A segment without some rows shares everything but the bitmap with the old one.
    """

    def __init__(self, rows: RowArray, scan: FaissIndex | SparseIndex) -> None:
        self.codec = scan.codec
        self.rows = rows
        self.scan = scan
        self.live = np.packbits(np.ones(len(rows), np.bool_), bitorder="little")
        self.live_count = len(rows)
        self.buckets = BucketIndex(self.scan)

    @classmethod
    def of(cls, codec: Codec, rows: RowArray, codes: Codes) -> "Segment":
        """The segment of (n,) rows with (n, code_bytes) codes, which it copies into RAM."""
        return cls(rows, scan_of(codec)(codec, codes))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def codes(self) -> Codes:
        """(n, code_bytes), live or not."""
        return self.scan.codes

    @property
    def ram_bytes(self) -> int:
        """Codes, row ids, bitmap and whatever tables are built."""
        return self.scan.ram_bytes + self.buckets.ram_bytes + self.rows.nbytes + self.live.nbytes

    def slots(self, rows: RowArray) -> NDArray[np.int64]:
        """Where rows stand; -1 for those that are not here. Any shape."""
        if not len(self):
            return np.full(rows.shape, -1, np.int64)
        slots = np.minimum(np.searchsorted(self.rows, rows), len(self) - 1)
        return np.where(self.rows[slots] == rows, slots, -1)

    def without(self, rows: RowArray) -> "Segment":
        """The same segment with `rows` dead; itself where none of them is here and live."""
        alive = np.unpackbits(self.live, count=len(self), bitorder="little")
        slots = self.slots(rows)
        slots = slots[slots >= 0]
        slots = slots[alive[slots] == 1]
        if not len(slots):
            return self
        alive[slots] = 0
        lesser = object.__new__(Segment)
        lesser.__dict__.update(self.__dict__)
        lesser.live = np.packbits(alive, bitorder="little")
        lesser.live_count = self.live_count - len(slots)
        return lesser

    def live_slots(self) -> NDArray[np.int64]:
        """Slots of the live rows, ascending."""
        return np.flatnonzero(np.unpackbits(self.live, count=len(self), bitorder="little"))

    def search(self, queries: Vectors, k: int, kind: IndexKind, candidates: int) -> Neighbours:
        """(q, D) queries to the best k live rows of each by latents; `candidates` bounds the buckets' work."""
        if not self.live_count:
            return Neighbours(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
        if kind is IndexKind.BUCKETS:
            found = self.buckets.search(queries, k, self.live, candidates).neighbours
        else:
            found = self.scan.search(queries, k, self.live)
        return Neighbours(np.where(found.rows >= 0, self.rows[found.rows], -1), found.scores)
