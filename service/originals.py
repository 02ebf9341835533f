"""How the vectors that came in are kept beside their codes. Knows no SQL and no codec."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models import Vectors
from service.errors import InvalidInput

MOST_LOST = 0.01
"""Share of a vector's length that float16 may lose: a two-thousandth is usual, more where numbers are tiny."""
KEPT_SAMPLE = 20_000
"""Vectors that a collection keeps of those it drops, about: to measure its codec by."""


class Originals(StrEnum):
    """What becomes of vectors once they are encoded."""

    FLOAT32 = "float32"
    """They stay as they came."""
    FLOAT16 = "float16"
    """They stay in half of the bytes."""
    DROP = "drop"
    """They go when the first codec is published, but for a sample; codes are all that is left to search."""

    @property
    def stored_as(self) -> str:
        """Of the vectors that are kept."""
        return "<f2" if self is Originals.FLOAT16 else "<f4"

    def bytes_of(self, dim: int) -> int:
        """That a (D,) vector takes beside its code."""
        return {Originals.FLOAT32: 4 * dim, Originals.FLOAT16: 2 * dim, Originals.DROP: 0}[self]

    def checked(self, vector: NDArray[np.float32], field: str) -> None:
        """Raises InvalidInput, naming `field`, where float16 cannot hold the vector."""
        if self is not Originals.FLOAT16:
            return
        with np.errstate(over="ignore"):
            lost = np.linalg.norm(vector.astype(np.float16).astype(np.float64) - vector)
        if not lost <= MOST_LOST * np.linalg.norm(vector.astype(np.float64)):
            raise InvalidInput(
                "float16, in which the collection keeps originals, cannot hold this vector: numbers are beyond 65,504 "
                "or smaller than a ten-thousandth; scale it, or make the collection with originals float32",
                field=field,
            )


def decoded(stored: Sequence[bytes], dim: int) -> Vectors:
    """(n, D) of n kept vectors; their length says whether they are float32 or float16."""
    kind = "<f2" if stored and len(stored[0]) == 2 * dim else "<f4"
    return np.frombuffer(b"".join(stored), kind).astype(np.float32, copy=False).reshape(len(stored), dim)
