"""Loads at the start what the last server held, so that no caller waits for it. Knows no HTTP."""

import logging
from threading import Event, Thread

from service.catalog import Catalog
from service.snapshots import Snapshots

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
"""After a look that failed, as while the database is away."""


class Warming:
    """A thread that loads the views of which there are snapshots: the large ones that this folder's servers held.

    Others are loaded when they are first asked for.
    """

    def __init__(self, catalog: Catalog, snapshots: Snapshots | None) -> None:
        self._catalog = catalog
        self._snapshots = snapshots
        self._done = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="warming", daemon=True)

    @property
    def done(self) -> bool:
        """Whether every view was loaded, or could not be, and came to the end of the log as it was then."""
        return self._done.is_set()

    def start(self) -> None:
        """Begins to load."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the view under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                kept = self._kept()
                break
            except Exception as error:
                log.warning("cannot look which views to load; going on trying: %s", error)
                self._stopping.wait(PAUSE_SECONDS)
        else:
            return
        for name in kept:
            if self._stopping.is_set():
                return
            try:
                self._catalog.open(name).follower.view()
            except Exception:
                # One that cannot be loaded must not keep the others from being searched; its searches say what it is.
                log.exception("could not load the view of %s", name)
        self._done.set()

    def _kept(self) -> list[str]:
        """The collections of which there are snapshots."""
        if self._snapshots is None:
            return []
        return [name for collection_id, name in self._catalog.names().items() if self._snapshots.listed(collection_id)]
