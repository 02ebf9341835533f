"""The newest queries that a process answered. In memory: written are those alone that a collection may log."""

from collections import deque

import numpy as np

from models import Vectors

MOST = 200
"""Queries that are kept."""
LOGGED = 10
"""Of those that came since the last time, evenly spaced, how many may be logged."""


class RecentQueries:
    """Thread-safe, as a deque's own methods are."""

    def __init__(self) -> None:
        self._kept: deque[Vectors] = deque(maxlen=MOST)
        self.count = 0
        """Of all that came; about, where threads count at the same time."""
        self._logged = 0
        """Of those that came before the last time that some were logged."""

    def add(self, point: Vectors) -> None:
        """Keeps a copy of a (D,) query, for the oldest one."""
        self._kept.append(point.copy())
        self.count += 1

    def vectors(self, dim: int) -> Vectors:
        """(q, dim), the newest last."""
        return np.array(self._kept.copy(), np.float32).reshape(-1, dim)

    def fresh(self, dim: int) -> Vectors:
        """(q, dim), at most LOGGED of those that came since this was asked last."""
        since, self._logged = self.count - self._logged, self.count
        vectors = self.vectors(dim)
        vectors = vectors[max(0, len(vectors) - since) :]
        return vectors[np.linspace(0, len(vectors) - 1, min(LOGGED, len(vectors))).astype(np.int64)]
