"""The time that a search may take, and what is left out for it. Knows no search."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Semaphore

from service.errors import OutOfTime


class Deadline:
    """A moment, `seconds` from now; without them it never comes. For one thread."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._cut: dict[int, str] = {}

    @property
    def left(self) -> float | None:
        """Seconds until it, not below 0; none where it never comes."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has come."""
        return self.left == 0.0

    @contextmanager
    def turn(self, computing: Semaphore) -> Iterator[None]:
        """Holds one of the places for what takes a core.

        Raises:
            OutOfTime: there was none in time.
        """
        if not computing.acquire(timeout=self.left):
            raise self.missed()
        try:
            yield
        finally:
            computing.release()

    def missed(self) -> OutOfTime:
        """What is said where nothing was found yet."""
        return OutOfTime(
            f"nothing was found within {round(1000 * (self._seconds or 0))} ms; try again, or allow more by timeout_ms",
            field="timeout_ms",
        )

    def cut(self, places: Iterable[int], what: str) -> None:
        """Notes what the queries at these places of their pass have to do without; the first that is noted is told."""
        for place in places:
            self._cut.setdefault(place, f"its time was over: {what}")

    def told(self) -> dict[int, str]:
        """What was noted, by place, once."""
        noted, self._cut = self._cut, {}
        return noted
