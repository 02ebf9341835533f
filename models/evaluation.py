"""Exact neighbours and recall against them. Knows no codec, index or database."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.metric import Metric, Scores, Vectors, score_matrix

BLOCK = 16_384
"""Rows scored at once: 25 MB of 384 floats."""
DRAWS = 1_000
"""Of a bootstrap."""
Z = 1.959964
"""Of the normal distribution, 95% lie within so many standard deviations."""


class Neighbours(NamedTuple):
    """The best k of each query, best first; ties in the order of the rows."""

    rows: NDArray[np.int64]
    """(q, k), -1 where there were fewer than k."""
    scores: Scores
    """(q, k), minus infinity where there were fewer than k."""


class Estimate(NamedTuple):
    """A mean over queries, and the interval in which 95 of 100 such experiments have the true one."""

    value: float
    low: float
    high: float


def top(scores: Scores, rows: NDArray[np.int64], k: int) -> Neighbours:
    """The k best columns of (q, n) scores, best first, ties by smaller row; `rows` is (n,) or (q, n)."""
    _, n = scores.shape
    rows = np.broadcast_to(rows, scores.shape)
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)  # a partition would take NaN for the largest
    if n > 4 * k:
        # argpartition picks any of several equal scores at the edge; keeping all that reach the k-th is what
        # makes ties stable, and a few more columns cost nothing.
        edge = np.partition(scores, n - k, axis=1)[:, n - k, None]
        keep = int((scores >= edge).sum(axis=1).max())
        columns = np.argpartition(-scores, min(keep, n - 1), axis=1)[:, :keep]
        scores, rows = np.take_along_axis(scores, columns, 1), np.take_along_axis(rows, columns, 1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    best = Neighbours(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))
    missing = k - best.rows.shape[1]
    if missing <= 0:
        return best
    return Neighbours(
        np.pad(best.rows, ((0, 0), (0, missing)), constant_values=-1),
        np.pad(best.scores, ((0, 0), (0, missing)), constant_values=-np.inf),
    )


def merged(parts: Iterable[Neighbours], k: int) -> Neighbours:
    """The k best over several partial answers to the same queries."""
    collected = list(parts)
    rows = np.concatenate([part.rows for part in collected], axis=1)
    scores = np.concatenate([part.scores for part in collected], axis=1)
    best = top(scores, rows, k)
    return Neighbours(np.where(np.isneginf(best.scores), -1, best.rows), best.scores)


def exact_neighbours(base: Vectors, queries: Vectors, k: int, metric: Metric) -> Neighbours:
    """Exhaustive search: (n, D) and (q, D) to the k true neighbours of each query."""
    parts = [
        top(
            score_matrix(queries, base[start : start + BLOCK], metric),
            np.arange(start, min(start + BLOCK, len(base))),
            k,
        )
        for start in range(0, len(base), BLOCK)
    ]
    return merged(parts, k)


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each query's true rows that were found: (q, any) and (q, k) to (q,); -1 counts as nothing."""
    wanted = truth >= 0
    hit = (truth[:, :, None] == found[:, None, :]).any(axis=2) & wanted
    return np.asarray(hit.sum(axis=1) / np.maximum(wanted.sum(axis=1), 1), np.float64)


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Where the mean of (q,) values lies with 95%, by bootstrap over queries: the hits of one are not independent."""
    draws = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def fewest_draws(recall: float) -> float:
    """Draws of which none may miss for `estimated`'s lower end to reach a recall below 1."""
    return Z**2 * recall / (1 - recall)


def estimated(recalls: NDArray[np.float64]) -> Estimate:
    """The mean of (q,) queries' recall with its 95% interval: Wilson's score interval, for queries instead of hits.

    Hits within a query fall together, so that q queries of k hits tell less than q k hits drawn singly would: with mean
    p and variance s^2 over queries as much as m = q p (1 - p) / s^2 single ones (Kish 1965; Korn and Graubard 1998),
    and as q where no query differs from another. Wilson's interval (1927) of m stays honest where a bootstrap over
    queries is too narrow: at few queries, and at a recall near 1, where hardly any query errs.
    """
    queries, mean, variance = (
        len(recalls),
        float(recalls.mean()),
        float(recalls.var(ddof=1)) if len(recalls) > 1 else 0.0,
    )
    drawn = queries * mean * (1 - mean) / variance if variance else queries
    centre, half = mean + Z**2 / (2 * drawn), Z * np.sqrt(mean * (1 - mean) / drawn + Z**2 / (4 * drawn**2))
    low, high = (float((centre + side * half) / (1 + Z**2 / drawn)) for side in (-1, 1))
    return Estimate(mean, max(0.0, low), min(1.0, high))
