"""Scores between queries and vectors, higher always better. Knows no codes and no indexes."""

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""(n, D) float32."""
Codes = NDArray[np.uint8]
"""(n, B) uint8: one code of B bytes a row."""
Scores = NDArray[np.float32]


class Metric(StrEnum):
    """How two vectors are compared."""

    COSINE = "cosine"
    """<q, x> / (|q| |x|)"""
    IP = "ip"
    """<q, x>"""
    L2 = "l2"
    """-|q - x|^2, minus the squared distance, so that higher is better"""


def normalized(vectors: Vectors) -> Vectors:
    """Each row at length 1; a zero row stays zero. (n, D) to (n, D), a new array."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0), np.float32)


def prepared(vectors: Vectors, metric: Metric) -> Vectors:
    """What is compressed and compared: unit vectors under cosine, the vectors themselves otherwise."""
    return normalized(vectors) if metric is Metric.COSINE else vectors


def score_matrix(queries: Vectors, vectors: Vectors, metric: Metric) -> Scores:
    """All scores at once by one matrix product: (q, D) and (n, D) to (q, n).

    Under l2 the square is expanded about the vectors' mean, where fewest digits cancel; rank a shortlist of it again
    with `paired_scores` where the last digits matter.
    """
    return np.asarray(rounded_scores(prepared(queries, metric), vectors, metric)[0], np.float32)


def rounded_scores(queries: Any, vectors: Any, metric: Metric) -> tuple[Any, Any]:
    """`score_matrix` of NumPy's arrays or of PyTorch's, queries at length 1 under cosine, and how far from one another
    two roundings of a score may be, (q,).

    A sum of D rounded products is off by D epsilon / 2 of the largest that it could be (Higham 2002, 3.1), and so is
    the other, and the squares that lengths are of. Errors are much smaller as a rule, for they cancel.
    """
    if metric is Metric.L2:  # about the mean fewest digits cancel
        centre = vectors.mean(0)
        queries, vectors = queries - centre, vectors - centre
    own, squares = (queries * queries).sum(1), (vectors * vectors).sum(1)
    scores, longest, length = queries @ vectors.T, squares.max() ** 0.5, own**0.5
    if metric is Metric.L2:
        scores, largest = 2 * scores - squares - own[:, None], (length + longest) ** 2
    elif metric is Metric.COSINE:
        lengths = squares**0.5
        scores, largest = scores / (lengths + (lengths == 0)), length
    else:
        largest = length * longest
    return scores, (2 * vectors.shape[1] + 8) * float(np.finfo(np.float32).eps) * largest


def paired_scores(queries: Vectors, vectors: Vectors, metric: Metric) -> Scores:
    """Each query with its own candidates, computed term by term: (q, D) and (q, c, D) to (q, c)."""
    if metric is Metric.L2:
        differences = queries[:, None, :] - vectors
        return np.asarray(-np.einsum("qcd,qcd->qc", differences, differences), np.float32)
    scores = np.asarray(np.einsum("qd,qcd->qc", queries, vectors), np.float32)
    if metric is Metric.IP:
        return scores
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=2)
    cosines = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
    return np.asarray(np.clip(cosines, -1, 1), np.float32)


def decoded_scores(products: Scores, squares: Scores, metric: Metric) -> Scores:
    """Scores of decoded vectors from <q, x_hat> and |x_hat|^2, up to what is the same for all vectors of a query."""
    if metric is Metric.IP:
        return np.asarray(products, np.float32)
    if metric is Metric.L2:
        return np.asarray(2 * products - squares, np.float32)
    return np.asarray(products / np.sqrt(np.maximum(squares, np.float32(1e-30))), np.float32)
