"""How an index may read the bytes of a code. Knows no index, no network and no torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FloatSpace:
    """Codes are float32 vectors, compared as such."""

    dim: int


@dataclass(frozen=True)
class ScalarSpace:
    """Codes are latents on even grids of 2^bits values: low + width (c + 1/2) / (2^bits - 1)."""

    bits: int
    """4, 8, or 16 for float16."""
    low: NDArray[np.float32]
    """(m,)"""
    width: NDArray[np.float32]
    """(m,)"""


@dataclass(frozen=True)
class ProductSpace:
    """Each byte of a code picks one of 256 points of its own; what is compared are the points side by side, but of a
    residual code their sum.
    """

    centroids: NDArray[np.float32]
    """(bytes, 256, width)"""


@dataclass(frozen=True)
class SparseSpace:
    """A code is k pairs: k little-endian uint16 indices of latents, then k uint8 values in steps of `unit`."""

    k: int
    latents: int
    """m"""
    unit: float


Space = FloatSpace | ScalarSpace | ProductSpace | SparseSpace
