"""Where the time of a search goes. Knows no stage by name."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Milliseconds and counts of one pass; for one thread."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        """By stage, in the order in which they first ran."""
        self.counts: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time that its block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            took = 1_000 * (time.perf_counter() - began)
            self.milliseconds[name] = self.milliseconds.get(name, 0.0) + took

    def count(self, name: str, number: int) -> None:
        """Adds to a count."""
        self.counts[name] = self.counts.get(name, 0) + number
