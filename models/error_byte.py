"""The last byte of some additive codes: how far the vector is from what its codewords stand for. Knows no codewords.

A neighbour's distance is what decoding tells and what it left out:

    |q - x|^2 = |q - x_hat|^2 + |x - x_hat|^2 - 2 <q - x_hat, x - x_hat>

The last term is about zero of vectors at random, and of near ones a share of the second, for neighbours of x lie on its
side of x_hat. So a score takes SHARE |x - x_hat|^2 away beside |q - x_hat|^2, and a byte tells it: with 16 levels
nearly the same neighbours are kept (docs/decisions/0032).
"""

import numpy as np
from numpy.typing import NDArray

from models.metric import Vectors

LEVELS = 256
SHARE = 0.8
"""Of a vector's own error, what its score loses: .7 to .9 are alike."""
SHORTEST = 8
"""Bytes of a code from which on vectors never seen do not lose by this, on any set that was measured; those trained on
may, below twelve, where codewords are what lacks."""
SPAN = 1_000
"""How many times the least level is the largest: the steps between them are of 2.7%."""
ABOVE = 4
"""Times the errors seen that the largest is: of vectors unlike those trained on more is left out."""


def levels_of(errors: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n,) squared errors, a thousandth of them outliers, to the (256,) ascending levels that they are rounded to."""
    return np.asarray(ABOVE * np.quantile(errors, 0.999) * np.geomspace(1 / SPAN, 1, LEVELS), np.float32)


def nearest_levels(errors: NDArray[np.floating], levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n,) squared errors and (256,) levels to (n, 1), which of them each is rounded to."""
    ends = (levels[1:].astype(np.float64) + levels[:-1]) / 2
    return np.searchsorted(ends, errors).astype(np.uint8)[:, None]


def farther(vectors: Vectors, queries: Vectors, errors: NDArray[np.float32] | None) -> tuple[Vectors, Vectors]:
    """(n, D) vectors and (q, D) queries with a number more each, so that squared distances are larger by (n,) `errors`;
    as they are where there are none.
    """
    if errors is None:
        return vectors, queries
    return np.hstack((vectors, np.sqrt(errors)[:, None])), np.pad(queries, ((0, 0), (0, 1)))
