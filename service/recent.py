"""The newest queries that a process answered. In memory: written are those alone that a collection may log."""

from collections import deque
from threading import Lock

import numpy as np

from models import Vectors

MOST = 200
"""Queries that are kept."""
LOGGED = 10
"""Of those that came since the last time, evenly spaced, how many may be logged."""


class RecentQueries:
    """Thread-safe."""

    def __init__(self) -> None:
        self._kept: deque[Vectors] = deque(maxlen=MOST)
        self._lock = Lock()
        self.count = 0
        """Of all that came."""
        self._logged = 0
        """Of those that came before the last time that some were logged."""

    def add(self, point: Vectors) -> None:
        """Keeps a copy of a (D,) query, for the oldest one."""
        kept = point.copy()
        with self._lock:
            self._kept.append(kept)
            self.count += 1

    def vectors(self, dim: int) -> Vectors:
        """(q, dim), the newest last."""
        with self._lock:
            kept = list(self._kept)
        return np.array(kept, np.float32).reshape(-1, dim)

    def fresh(self, dim: int) -> Vectors:
        """(q, dim), at most LOGGED of those that came since this was asked last."""
        with self._lock:  # none is counted that is not there yet: it would stand for an older one the next time
            since, self._logged = self.count - self._logged, self.count
            kept = list(self._kept)[max(0, len(self._kept) - since) :]
        chosen = np.linspace(0, len(kept) - 1, min(LOGGED, len(kept))).astype(np.int64)
        return np.array([kept[place] for place in chosen.tolist()], np.float32).reshape(-1, dim)
