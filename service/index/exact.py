"""Exhaustive search over original vectors that come in blocks. Knows no codes, no slots and no SQL."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models import Metric, Neighbours, Vectors, merged, paired_scores, prepared, score_matrix, top


def exact_search(
    blocks: Iterable[tuple[NDArray[np.int64], Vectors]], queries: Vectors, k: int, metric: Metric
) -> Neighbours:
    """The true k best rows of (q, D) queries over blocks of (n,) row ids and (n, D) vectors, one in RAM at a time."""
    queries = prepared(queries, metric)
    best = Neighbours(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
    for rows, vectors in blocks:
        # The product's rounding is enough to choose a few more than k; those are scored again term by term.
        near = top(score_matrix(queries, vectors, metric), np.arange(len(rows)), min(2 * k, len(rows))).rows
        scores = paired_scores(queries, vectors[near], metric)
        best = merged((best, top(scores, rows[near], k)), k)
    return best
