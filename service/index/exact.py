"""Exhaustive search over original vectors that come in blocks. Knows no codes, no slots and no SQL."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models import Metric, Neighbours, Vectors, merged, near_rows, paired_scores, prepared, top

BLOCK_NUMBERS = 4_000_000
"""Numbers of candidates' vectors held at once: 16 MB."""


def exact_search(
    blocks: Iterable[tuple[NDArray[np.int64], Vectors]],
    queries: Vectors,
    k: int,
    metric: Metric,
    device: str = "cpu",
) -> Neighbours:
    """The true k best rows of (q, D) queries over blocks of (n,) row ids and (n, D) vectors, one in RAM at a time.

    Products are computed on `device`, named as in TrainingConfig; the answer is the same.
    """
    queries = prepared(queries, metric)
    best = Neighbours(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
    for rows, vectors in blocks:
        if not len(rows):
            continue
        near = near_rows(queries, vectors, k, metric, device, best.scores[:, -1])
        if not near.shape[1]:
            continue
        size = max(1, BLOCK_NUMBERS // near.shape[1] // vectors.shape[1])
        scores = np.concatenate(
            [
                paired_scores(queries[start : start + size], vectors[near[start : start + size]], metric)
                for start in range(0, len(queries), size)
            ]
        )
        scores[near < 0] = -np.inf
        best = merged((best, top(scores, rows[near], k)), k)
    return best
