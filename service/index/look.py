"""How far a search looked into the buckets, and what it found there. Knows no bucket and no codec."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Neighbours, merged

Over = Callable[[], bool]
"""Whether the time is over."""


def never() -> bool:
    """There is time without end."""
    return False


class Look(NamedTuple):
    """What a bucket search found, and how far it looked for each of q queries."""

    neighbours: Neighbours
    tables: int
    probes: NDArray[np.int64]
    """(q,) buckets looked into, of all tables: 0 where every live code was scored without."""
    candidates: NDArray[np.int64]
    """(q,) codes scored, each once"""
    radius: NDArray[np.int64]
    """(q,) every live code of which any table's key differs from the query's in so many bits, or fewer, was scored; -1
    where not even the query's own bucket was read in every table, and where keys are no strings of bits."""
    cut: NDArray[np.bool_]
    """(q,) whether the time was over before as much was read as was wanted."""

    @classmethod
    def nothing(cls, queries: int, k: int) -> "Look":
        """Where there is nothing to look into."""
        none, whole = np.zeros(queries, np.int64), np.zeros(queries, np.bool_)
        rows, scores = np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32)
        return cls(Neighbours(rows, scores), 0, none, none, none - 1, whole)

    @classmethod
    def of(cls, looks: list["Look"], k: int) -> "Look":
        """The same queries' looks into several indexes as one: the k best of all."""
        return cls(
            merged((look.neighbours for look in looks), k),
            max(look.tables for look in looks),
            np.sum([look.probes for look in looks], axis=0),
            np.sum([look.candidates for look in looks], axis=0),
            np.min([look.radius for look in looks], axis=0),
            np.any([look.cut for look in looks], axis=0),
        )
