"""Lets every open collection of this process follow what other processes wrote. Knows no HTTP and no vectors."""

import logging
from threading import Event, Thread

from service.catalog import Catalog
from service.store.database import Database
from service.views import Views

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.2
"""After a look that failed."""


class Poller:
    """A thread that looks at the database when that may have changed."""

    def __init__(self, database: Database, catalog: Catalog, milliseconds: int, views: Views) -> None:
        self._database = database
        self._catalog = catalog
        self._views = views
        self._seconds = milliseconds / 1000
        self._stopping = Event()
        self._failing: set[int] = set()
        self._thread = Thread(target=self._run, name="log-poller", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the look under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        signal = self._database.signal()
        failed = False
        while not self._stopping.is_set():
            try:
                if (changed := signal.wait(self._seconds)) or failed:
                    self._look()
                failed = bool(self._failing)
                self._views.polled(changed)
            except Exception:
                # A database that is away comes back; a poller that ended would leave the views behind for ever.
                if not failed:
                    log.exception("could not look at the log; going on trying")
                failed = True
            if failed:
                self._stopping.wait(PAUSE_SECONDS)
        signal.close()

    def _look(self) -> None:
        heads = self._catalog.heads()
        self._failing &= {collection.id for collection in self._catalog.opened()}
        for collection in self._catalog.opened():
            head = heads.get(collection.id)
            try:
                if head is None:
                    self._catalog.forget(collection.id)
                elif collection.is_behind(head):
                    self._views.behind(collection)
                    collection.follow()
                self._views.caught_up(collection)
                self._failing.discard(collection.id)
            except Exception:
                # One collection that cannot be followed (a damaged codec, say) must not hold back the others.
                if collection.id not in self._failing:
                    log.exception("could not follow the log of %s; going on trying", collection.name)
                self._failing.add(collection.id)
