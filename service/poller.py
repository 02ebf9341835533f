"""Lets every open collection of this process follow what other processes wrote. Knows no HTTP and no vectors."""

import logging
from threading import Event, Thread

from service.catalog import Catalog
from service.errors import CollectionNotFound
from service.store.database import Database

log = logging.getLogger(__name__)


class Poller:
    """A thread that looks at the database every few milliseconds."""

    def __init__(self, database: Database, catalog: Catalog, milliseconds: int) -> None:
        self._database = database
        self._catalog = catalog
        self._seconds = milliseconds / 1000
        self._stopping = Event()
        self._seen: int | None = None
        self._thread = Thread(target=self._run, name="log-poller", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the look under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._look()
            except Exception:
                # A database that is away comes back; a poller that ended would leave the views behind for ever.
                log.exception("could not follow the log")

    def _look(self) -> None:
        version = self._database.version()
        if version is not None and version == self._seen:
            return
        for collection in self._catalog.opened():
            try:
                collection.follower.follow()
            except CollectionNotFound:
                self._catalog.forget(collection.id)
            except Exception:
                # One collection that cannot be followed (a damaged codec, say) must not hold back the others.
                log.exception("could not follow the log of %s", collection.name)
        self._seen = version
