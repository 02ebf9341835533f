"""Codes as hash-table addresses: a code's keys name its buckets, and a query looks into the cheapest buckets first.

Knows no row ids, no FAISS and no SQL, and not what keys and costs mean: the codec does.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Neighbours, Vectors, top

FEWEST_BITS, MOST_BITS = 2, 16
"""As many buckets as there are codes, within these: small buckets let the query's margins order the scan finely."""


class Scan(NamedTuple):
    """What a bucket search did."""

    neighbours: Neighbours
    candidates: NDArray[np.int64]
    """(q,) codes scored."""


class BucketIndex:
    """An immutable index over n codes; slot i is code i. A table is its slots in the order of their buckets."""

    def __init__(self, codec: Codec, codes: Codes) -> None:
        self.codec = codec
        self.codes = codes
        n = len(codes)
        self.bits = int(np.clip(np.log2(max(1, n)), FEWEST_BITS, MOST_BITS))
        keys = codec.bucket_keys(codes, self.bits)
        slots = [np.argsort(column, kind="stable") for column in keys.T]
        sizes = [np.bincount(column, minlength=codec.bucket_count(self.bits)) for column in keys.T]
        # The tables stand one behind the other, so that a bucket is a number and its slots are one range.
        self._slots = np.concatenate(slots).astype(np.uint32)
        self._begins = np.concatenate(([0], np.cumsum(np.concatenate(sizes)))).astype(np.uint32)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def ram_bytes(self) -> int:
        """Bytes of the tables, without the codes."""
        return self._slots.nbytes + self._begins.nbytes

    def search(self, queries: Vectors, k: int, live: NDArray[np.uint8], candidates: int) -> Scan:
        """(q, D) queries to the best k slots of each, among about `candidates` slots from the nearest buckets.

        Slots whose bit in `live` is not set are neither scored nor counted. Scores compare latents.
        """
        points = self.codec.points(queries)
        latents = self.codec.latents(queries)
        alive = np.unpackbits(live, count=len(self), bitorder="little").astype(bool)
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        scored = np.zeros(len(queries), np.int64)
        for query, point in enumerate(points):
            slots = self._candidates(latents[query], candidates, alive)
            shortlist = self.codec.point_scores(point, self.codec.stored_latents(self.codes[slots]))
            best = top(shortlist[None, :], slots, k)
            rows[query], scores[query], scored[query] = best.rows[0], best.scores[0], len(slots)
        return Scan(Neighbours(rows, scores), scored)

    def _candidates(self, latents: NDArray[np.float32], wanted: int, alive: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The first `wanted` live slots from the nearest buckets over all tables, for one query's (m,) latents."""
        costs = self.codec.bucket_costs(latents, self.bits).ravel()
        order = np.argsort(costs, kind="stable")
        begins = self._begins[order].astype(np.int64)
        sizes = self._begins[order + 1] - begins
        entries = np.cumsum(sizes)
        reach = wanted
        while True:
            probes = int(np.searchsorted(entries, reach)) + 1
            slots = self._slots[_ranges(begins[:probes], sizes[:probes])].astype(np.int64)
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
