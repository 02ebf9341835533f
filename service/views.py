"""How the views of a process stand, told to its metrics. Knows no SQL, no search and no HTTP."""

import time
from threading import Lock

from service.catalog import Catalog
from service.collection import Collection
from service.metrics import NEVER, Metrics

REPORT_SECONDS = 1
"""Between two reports of what views take: they also grow without a change, when something is searched first."""
NOTHING = {"codes": 0, "codec": 0, "postings": 0}


class Views:
    """Thread-safe: the poller tells how it follows, and a scrape asks for what is so in that moment."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._lock = Lock()
        self._applied: dict[str, float] = {}
        """By collection, as it was told last."""
        self._behind: set[str] = set()
        self._reported = 0.0

    def behind(self, collection: Collection) -> None:
        """There is more in the log than its views hold."""
        with self._lock:
            if collection.name not in self._behind:
                self._behind.add(collection.name)
                self._metrics.behind(collection.name, time.time())

    def caught_up(self, collection: Collection) -> None:
        """They have come to the end of the log."""
        with self._lock:
            if collection.name in self._behind:
                self._behind.discard(collection.name)
                self._metrics.behind(collection.name)

    def polled(self, changed: bool) -> None:
        """The log was looked at, and followed as far as that was possible."""
        self._metrics.polled(time.time())
        if time.monotonic() - self._reported > REPORT_SECONDS:
            self.report()
        elif changed:
            with self._lock:
                for collection in self._catalog.opened():
                    self._tell_applied(collection)

    def report(self) -> None:
        """Tells how every view stands now."""
        with self._lock:
            self._reported = time.monotonic()
            opened = self._catalog.opened()
            for gone in self._applied.keys() - {collection.name for collection in opened}:
                del self._applied[gone]
                self._behind.discard(gone)
                self._metrics.applied(gone, NEVER)
                self._metrics.behind(gone)
                self._metrics.held(gone, NOTHING, 0)
            for collection in opened:
                self._tell_applied(collection)
                self._metrics.held(collection.name, *collection.taken())

    def _tell_applied(self, collection: Collection) -> None:
        seq = collection.applied_seq()
        if seq is not None and self._applied.get(collection.name) != seq:
            self._applied[collection.name] = seq
            self._metrics.applied(collection.name, seq)
