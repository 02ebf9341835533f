"""The newest queries that a process answered. In memory only: nothing of them is written or told, but for figures."""

from collections import deque

import numpy as np

from models import Vectors

MOST = 200
"""Queries that are kept."""


class RecentQueries:
    """Thread-safe: a deque's own operations are."""

    def __init__(self) -> None:
        self._kept: deque[Vectors] = deque(maxlen=MOST)
        self.count = 0
        """Of all that came; about, where threads count at the same time."""

    def add(self, point: Vectors) -> None:
        """Keeps a copy of a (D,) query, for the oldest one."""
        self._kept.append(point.copy())
        self.count += 1

    def vectors(self, dim: int) -> Vectors:
        """(q, dim), the newest last."""
        return np.array(tuple(self._kept), np.float32).reshape(-1, dim)
