"""The newest build of a folder, served without a pause when it is built anew. Knows no database and no HTTP."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from service.builds.manifest import Manifest
from service.deadline import Deadline
from service.query import Query
from service.read_only import Found

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the folder's manifest."""


class Built(Protocol):
    """One build, opened."""

    name: str
    manifest: Manifest
    certificate: Mapping[str, Any]

    def search(self, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        """The items nearest to each query's vector."""

    def close(self) -> None:
        """Frees what it takes."""


class Served:
    """A thread that looks at the folder; whoever asks `build` once gets all answers of a request from one build."""

    def __init__(self, folder: Path, opened: Callable[[Manifest], Built], grace_seconds: float) -> None:
        """Opens the build that is there, which somebody has checked; an older one is closed `grace_seconds` after it
        was replaced, when every request to it has ended.

        Raises:
            DamagedGeneration, ClusterError
        """
        self._folder = folder
        self._opened = opened
        self._grace = grace_seconds
        self.build = opened(Manifest.load(folder))
        self._stopping = Event()
        self._failed: str | None = None
        self._replaced: list[tuple[float, Built]] = []
        """With the moment from which nobody asks them any more."""
        self._thread = Thread(target=self._run, name="folder-watch", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what a cluster holds stays there."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._close_replaced()
                self._look()
                self._failed = None
            except Exception as error:  # whatever a folder or a cluster raises, the next look may succeed
                if self._failed != str(error):  # a folder that is being repaired is looked at again and again
                    log.warning(
                        "the new build of %s cannot be served, going on with the old one: %s", self._folder, error
                    )
                self._failed = str(error)

    def _look(self) -> None:
        manifest, old = Manifest.load(self._folder), self.build
        if manifest.generation == old.manifest.generation:
            return
        manifest.check(self._folder)
        self.build = self._opened(manifest)
        log.info("serving %s of %s, %d items", manifest.generation, self._folder, manifest.items)
        self._replaced.append((time.monotonic() + self._grace, old))

    def _close_replaced(self) -> None:
        while self._replaced and self._replaced[0][0] < time.monotonic():
            _, old = self._replaced.pop(0)
            old.close()
