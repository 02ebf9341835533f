"""Codes as hash-table addresses: a code's keys name its buckets, and a query looks into the cheapest buckets first.

Knows no row ids, no FAISS and no SQL, and not what keys and costs mean: the codec does.
"""

from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Neighbours, Scores, Vectors, top
from service.index.listed import ListedCodes

FEWEST_BITS, MOST_BITS = 2, 16
"""As many buckets as there are codes, within these: small buckets let the query's margins order the scan finely."""


class ScanIndex(Protocol):
    """The index that scans all codes of a segment: the buckets let it score those that they choose."""

    @property
    def codec(self) -> Codec:
        """Whose codes they are."""
        ...

    @property
    def codes(self) -> Codes | ListedCodes:
        """(n, code_bytes) by slot."""
        ...

    def __len__(self) -> int: ...

    def near(self, queries: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(q, D) queries and (c,) slots to (q, c) scores."""
        ...


class Scan(NamedTuple):
    """What a bucket search did."""

    neighbours: Neighbours
    candidates: NDArray[np.int64]
    """(q,) codes scored."""


class _Tables(NamedTuple):
    """All tables one behind the other, so that a bucket is a number and its slots are one range."""

    slots: NDArray[np.uint32]
    begins: NDArray[np.uint32]
    """(tables * buckets + 1,)"""


class BucketIndex:
    """An immutable index over n codes; slot i is code i. Its tables are built by the first search."""

    def __init__(self, scan: ScanIndex) -> None:
        self.codec = scan.codec
        self._scan = scan
        self.bits = int(np.clip(np.log2(max(1, len(scan))), FEWEST_BITS, MOST_BITS))
        self._building = Lock()
        self._built: _Tables | None = None

    def __len__(self) -> int:
        return len(self._scan)

    @property
    def ram_bytes(self) -> int:
        """Bytes of the tables, without the codes: none before the first search."""
        return 0 if self._built is None else self._built.slots.nbytes + self._built.begins.nbytes

    def _tables(self) -> "_Tables":
        with self._building:
            if self._built is None:
                keys = self.codec.bucket_keys(self._scan.codes[:], self.bits)
                buckets = self.codec.bucket_count(self.bits)
                slots = [np.argsort(column, kind="stable") for column in keys.T]
                sizes = [np.bincount(column, minlength=buckets) for column in keys.T]
                begins = np.concatenate(([0], np.cumsum(np.concatenate(sizes))))
                self._built = _Tables(np.concatenate(slots).astype(np.uint32), begins.astype(np.uint32))
            return self._built

    def search(self, queries: Vectors, k: int, live: NDArray[np.uint8], candidates: int) -> Scan:
        """(q, D) queries to the best k slots of each, among about `candidates` slots from the nearest buckets.

        Slots whose bit in `live` is not set are neither scored nor counted. Scores compare latents.
        """
        latents = self.codec.latents(queries)
        alive = np.unpackbits(live, count=len(self), bitorder="little").astype(bool)
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        scored = np.zeros(len(queries), np.int64)
        for query in range(len(queries)):
            slots = self._candidates(latents[query], candidates, alive)
            best = top(self._scan.near(queries[query : query + 1], slots), slots, k)
            rows[query], scores[query], scored[query] = best.rows[0], best.scores[0], len(slots)
        return Scan(Neighbours(rows, scores), scored)

    def _candidates(self, latents: NDArray[np.float32], wanted: int, alive: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The first `wanted` live slots from the nearest buckets over all tables, for one query's (m,) latents."""
        costs = self.codec.bucket_costs(latents, self.bits).ravel()
        order = np.argsort(costs, kind="stable")
        tables = self._tables()
        begins = tables.begins[order].astype(np.int64)
        sizes = tables.begins[order + 1] - begins
        entries = np.cumsum(sizes)
        reach = wanted
        while True:
            probes = int(np.searchsorted(entries, reach)) + 1
            slots = tables.slots[_ranges(begins[:probes], sizes[:probes])].astype(np.int64)
            slots = slots[alive[slots]]
            _, first = np.unique(slots, return_index=True)
            if len(first) >= wanted or probes >= len(order):
                return slots[np.sort(first)[:wanted]]
            reach *= 2  # a slot stands in every table, and some are dead


def _ranges(begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """begin, begin + 1, ... begin + size - 1 of every range, one after the other."""
    total = int(sizes.sum())
    shifts = np.repeat(begins - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes)
    return shifts + np.arange(total)
