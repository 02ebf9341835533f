"""Sparse codes scanned whole: a score is k additions a code. Knows no row ids, no buckets and no SQL."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import (
    Codec,
    Codes,
    Metric,
    Neighbours,
    Scores,
    SparseSpace,
    Vectors,
    decoded_scores,
    merged,
    top,
)
from service.index.near import Near

INDEX = "index"
QUERY_BLOCK = 32
"""Queries that share one reading of the codes."""
SLOT_BLOCK = 65_536
"""Slots whose scores are in memory at once: 8 MB for a block of queries."""
GATHERED = 8_192
"""Codes times queries gathered at once: 1 MB at 32 pairs, which stays in the cache."""


class SparseIndex:
    """An immutable index over n codes of (index, value) pairs; slot i is code i.

        <q, x_hat> = sum_j z_j p_j + p_m        p = codec.points(q), (m + 1,)

    Under l2 and cosine the squared length of every decoded vector is kept beside its code, in four bytes.
    """

    files = (INDEX,)

    def __init__(self, codec: Codec, codes: Codes) -> None:
        if not isinstance(codec.space, SparseSpace):
            raise TypeError(f"codes of a {type(codec.space).__name__} are not sparse")
        self.codec = codec
        self.codes = np.ascontiguousarray(codes)
        self._space = codec.space
        self._squares = np.zeros(0 if codec.metric is Metric.IP else len(codes), np.float32)
        for start in range(0, len(self._squares), GATHERED):
            decoded = codec.decode(self.codes[start : start + GATHERED])
            self._squares[start : start + GATHERED] = np.einsum("nd,nd->n", decoded, decoded)

    @classmethod
    def mapped(cls, codec: Codec, folder: Path) -> "SparseIndex":
        """The index in a file that `write` made. Its codes stay in the file; their lengths are computed anew."""
        return cls(codec, np.load(folder / INDEX, mmap_mode="c"))  # nobody writes, but torch warns of what is read-only

    @staticmethod
    def write(codec: Codec, blocks: Iterable[Codes], folder: Path) -> None:
        """Writes blocks of (n, code_bytes) codes, slots in their order, as an NPY matrix."""
        codes = list(blocks)
        with (folder / INDEX).open("wb") as file:
            np.save(file, np.concatenate(codes) if codes else np.empty((0, codec.code_bytes), np.uint8))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def ram_bytes(self) -> int:
        """Bytes of codes and lengths."""
        return self.codes.nbytes + self._squares.nbytes

    @property
    def mapped_bytes(self) -> int:
        """Those of them that a mapped index leaves in its file."""
        return self.codes.nbytes

    def scanned(self, live: int, share: float) -> int:
        """How many of so many live codes a search looks at: all, whatever the share."""
        del share
        return live

    def search(self, queries: Vectors, k: int, live: NDArray[np.uint8], share: float = 1) -> Neighbours:
        """(q, D) queries to the best k slots of each whose bit in `live` (little-endian bitmap, n bits) is set.

        Scores are those of decoded vectors, up to what is the same for all slots of a query.
        """
        del share  # every code is looked at
        points = self.codec.points(queries)
        slots = np.flatnonzero(np.unpackbits(live, count=len(self), bitorder="little"))
        found = [Neighbours(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))]
        for start in range(0, len(slots), SLOT_BLOCK):
            block = slots[start : start + SLOT_BLOCK]
            parts = [
                top(self._scores(points[first : first + QUERY_BLOCK], block), block, k)
                for first in range(0, len(points), QUERY_BLOCK)
            ]
            found.append(
                Neighbours(
                    np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts])
                )
            )
        return merged(found, k)

    def near(self, queries: Vectors) -> list[Near]:
        """For each of (q, D) queries what turns (c,) slots into (c,) scores as `search` has them."""
        return [self._near(point[None]) for point in self.codec.points(queries)]

    def _near(self, point: Vectors) -> Near:
        return lambda slots: self._scores(point, slots)[0]

    def scores(self, queries: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(q, D) queries and (q, c) slots to the codec's (q, c) scores; -1 gets minus infinity."""
        return np.where(slots < 0, np.float32(-np.inf), self.codec.scores(queries, self.codes[slots]))

    def _scores(self, points: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(q, m + 1) points and (c,) slots to (q, c) scores."""
        products = np.empty((len(slots), len(points)), np.float32)
        weights = np.ascontiguousarray(points[:, :-1].T)
        width = 2 * self._space.k
        step = max(64, GATHERED // max(1, len(points)))
        for start in range(0, len(slots), step):
            codes = self.codes[slots[start : start + step]]
            indices = np.ascontiguousarray(codes[:, :width]).view("<u2").astype(np.intp)
            values = codes[:, None, width:].astype(np.float32)
            gathered = weights.take(indices, axis=0, mode="clip")
            products[start : start + step] = np.matmul(values, gathered)[:, 0]
        scores = (products * np.float32(self._space.unit)).T + points[:, -1:]
        if self.codec.metric is Metric.IP:
            return scores
        return decoded_scores(scores, self._squares[slots], self.codec.metric)
