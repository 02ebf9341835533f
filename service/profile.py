"""Where the time of a search or a write goes: one measure for answers, metrics and traces. Knows no stage by name."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple


class Operation(StrEnum):
    """What a collection was asked to do."""

    SEARCH = "search"
    INGEST = "ingest"
    UPDATE = "update"
    """Of an item's metadata."""
    DELETE = "delete"


class Run(NamedTuple):
    """One run of a stage."""

    stage: str
    began: float
    """Seconds after the profile began."""
    seconds: float
    depth: int
    """How many stages it ran within."""


class Profile:
    """Milliseconds and counts of one pass; for one thread."""

    def __init__(self, operation: Operation = Operation.SEARCH, collection: str = "") -> None:
        self.operation = operation
        self.collection = collection
        self.codec = ""
        """The kind of the codec whose codes were searched last."""
        self.milliseconds: dict[str, float] = {}
        """By stage, in the order in which they first ran."""
        self.counts: dict[str, int] = {}
        self.runs: list[Run] = []
        """In the order in which they ended."""
        self.began = time.time()
        self._began = time.perf_counter()
        self._depth = 0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time that its block takes."""
        began = time.perf_counter()
        self._depth += 1
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self._depth -= 1
            self.milliseconds[name] = self.milliseconds.get(name, 0.0) + 1_000 * took
            self.runs.append(Run(name, began - self._began, took, self._depth))

    def looked_at(self, codec: str, items: int) -> None:
        """Of which kind the codes are that are searched, and how many items there are: of the last look, if several."""
        self.codec, self.counts["items"] = codec, items

    def count(self, name: str, number: int) -> None:
        """Adds to a count."""
        self.counts[name] = self.counts.get(name, 0) + number


Observer = Callable[[Profile], None]
"""Is told of each pass that came to its end."""


def unobserved(profile: Profile) -> None:
    """Where nobody wants to know."""
