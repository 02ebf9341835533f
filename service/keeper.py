"""Keeps snapshots of this process's views, and lets the views map them. Knows no SQL and no HTTP."""

import logging
import time
from threading import Event, Thread

from service.catalog import Catalog
from service.collection import Collection
from service.index.view import SMALLEST_TAIL, TAIL_SHARE, View
from service.snapshots import Kept, Snapshots

log = logging.getLogger(__name__)

LOOK_SECONDS = 2
TIDY_SECONDS = 60
RETRY_SECONDS = 60
"""After a snapshot that could not be written."""
BEHIND_SHARE = 10
"""A snapshot is made anew when more than a tenth of the items has changed since; at the end of the process sooner."""


class Keeper:
    """A thread that writes what has moved on.

    Of many processes one writes a collection's snapshot. All of them go on from it, so that they share its pages: a
    view that was loaded from the database, or whose tail was folded into its base, is in each one's own RAM.
    """

    def __init__(self, catalog: Catalog, snapshots: Snapshots, fewest: int) -> None:
        self._catalog = catalog
        self._snapshots = snapshots
        self._fewest = fewest
        self._stopping = Event()
        self._failed: dict[int, float] = {}
        """Collections whose snapshot could not be written, and when."""
        self._last_tidy = 0.0
        self._thread = Thread(target=self._run, name="snapshot-keeper", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what the next start would have to replay, and ends."""
        self._stopping.set()
        self._thread.join()
        self.look(ending=True)

    def look(self, *, ending: bool = False) -> None:
        """Once over all collections that this process has a view of."""
        for collection in self._catalog.opened():
            failed = self._failed.get(collection.id)
            if failed is not None and time.monotonic() < failed + RETRY_SECONDS:
                continue
            try:
                self._keep(collection, ending)
                self._failed.pop(collection.id, None)
            except Exception as error:
                # A full disk, say: the service goes on without a snapshot, and the older one stays.
                if failed is None:
                    reason = (str(error) or repr(error)).splitlines()[0]
                    log.warning("cannot keep a snapshot of %s, going on trying: %s", collection.name, reason)
                self._failed[collection.id] = time.monotonic()

    def _keep(self, collection: Collection, ending: bool) -> None:
        view = collection.follower.loaded
        if view is None or view.generation_id is None or len(view) < self._fewest:
            return
        newest = next(
            (kept for kept in self._snapshots.listed(collection.id) if kept.generation_id == view.generation_id), None
        )
        if self._is_due(view, newest, ending) and not self._snapshots.write(collection.id, view):
            return  # another process is writing it: it is there at the next look
        if not ending and (newest is None or view.base.folder != newest.folder):
            kept = self._snapshots.newest(collection.id)
            # Tables that a search made meanwhile are not given up for a snapshot without: the next look writes them.
            if kept is not None and kept.generation_id == view.generation_id and kept.hashed >= view.hashed:
                collection.follower.catch_up(kept)

    def _is_due(self, view: View, newest: Kept | None, ending: bool) -> bool:
        if newest is None:
            return True
        behind = view.applied_seq - newest.seq
        if ending:
            return behind >= self._fewest
        if view.hashed and not newest.hashed:
            return True
        if view.base.folder == newest.folder:
            return behind > max(self._fewest, len(view) // BEHIND_SHARE)
        # To go on from it must not mean to fold its tail at once, or there would be no end of it.
        return behind > max(SMALLEST_TAIL, len(view.base) // TAIL_SHARE) // 2

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()
            if time.monotonic() - self._last_tidy > TIDY_SECONDS:
                self._last_tidy = time.monotonic()
                self._tidy()

    def _tidy(self) -> None:
        try:
            self._snapshots.remove_without(set(self._catalog.heads()))
        except Exception as error:
            log.warning("cannot tidy the snapshots: %s", error)
