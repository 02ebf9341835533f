"""A collection's view in one process, and how it follows the log. Knows no HTTP, no text and no search."""

import logging
import time
from collections.abc import Sequence
from threading import Lock, Semaphore
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from models import Codec, FlatCodec, Metric, load_codec
from service.errors import Busy, CollectionNotFound, Unavailable
from service.index.segment import RowArray
from service.index.view import View
from service.originals import decoded
from service.snapshots import Snapshots
from service.store import payload, store
from service.store.database import Database
from service.store.tables import CollectionRow, GenerationRow

log = logging.getLogger(__name__)

PAGE = 5_000
"""Rows or log entries read in one short transaction."""


WAIT_SECONDS = 0.02
"""Between two looks for a change that somebody waits for."""
MOST_WAITING = 4
"""Searches that wait for changes at the same time, of a process: more must not keep the others from their turns."""


class Tuning(NamedTuple):
    """What a generation was tuned to."""

    oversample: int
    scan: float
    """Share of its codes that FAISS looks at."""
    margin: float | None
    """Of exact scores above their codes'; None where it was not measured."""


class Follower:
    """Holds the newest view; `catch_up` brings it to the end of the log, whoever wrote it."""

    def __init__(
        self,
        row: CollectionRow,
        database: Database,
        snapshots: Snapshots | None = None,
        waiting: Semaphore | None = None,
    ) -> None:
        self.id = row.id
        self.name = row.name
        self.dim = row.dimension
        self.metric = Metric(row.metric)
        self._database = database
        self._snapshots = snapshots
        self._waiting = waiting or Semaphore(MOST_WAITING)
        self._applying = Lock()
        self._view: View | None = None
        self._codecs: dict[int, Codec] = {}
        self._tunings: dict[int, Tuning] = {}

    def view(self, min_seq: int = 0, wait_seconds: float = 0) -> View:
        """The view as it is, loaded the first time; one that is behind `min_seq` is caught up.

        Raises:
            Unavailable: the log did not come to `min_seq` within `wait_seconds`. Busy: too many wait already.
        """
        view = self._view if self._view is not None else self.catch_up()
        if view.applied_seq < min_seq:
            view = self.catch_up()
        return view if view.applied_seq >= min_seq else self._awaited(min_seq, wait_seconds)

    def _awaited(self, min_seq: int, wait_seconds: float) -> View:
        end = time.monotonic() + wait_seconds
        if not self._waiting.acquire(blocking=False):
            raise Busy(f"{MOST_WAITING} searches wait for changes already; try again", field="min_seq")
        try:
            while (view := self.catch_up()).applied_seq < min_seq:
                if time.monotonic() >= end:
                    raise Unavailable(
                        f"the collection has come to seq {view.applied_seq}, not to {min_seq}; try again",
                        field="min_seq",
                    )
                time.sleep(WAIT_SECONDS)
        finally:
            self._waiting.release()
        return view

    def is_behind(self, head: store.Head) -> bool:
        """Whether there is a view, and more in the database than it holds."""
        view = self._view
        return view is not None and (view.generation_id != head.generation_id or view.applied_seq < head.seq)

    def follow(self) -> None:
        """Catches up where there is a view; what nobody has searched is not loaded."""
        if self._view is not None:
            self.catch_up()

    @property
    def loaded(self) -> View | None:
        """The view as it is; none where nobody has searched yet."""
        return self._view

    def catch_up(self, begin: View | None = None) -> View:
        """Follows the log to its end; a new generation is loaded whole before it replaces the old one, and so is
        everything where the log was cut beyond the view. The first time it begins with a snapshot where there is one;
        `begin` is what to go on from instead, such as an earlier state in a file.

        Raises:
            CollectionNotFound: it was deleted.
        """
        with self._applying:
            view = begin if begin is not None else self._view
            view = view if view is not None else self._kept()
            while True:
                with self._database.reading() as session:
                    row = session.get(CollectionRow, self.id)
                    if row is None:
                        raise CollectionNotFound(self.name, field="collection")
                    generation_id, seq = row.generation_id, row.seq
                    fits = (
                        view is not None and view.generation_id == generation_id and view.applied_seq >= row.floor_seq
                    )
                    codec = self.codec(session, generation_id)
                    changes = (
                        store.changes_after(session, self.id, generation_id, view.applied_seq, PAGE)
                        if view is not None and fits
                        else []
                    )
                if view is None or not fits:
                    view = self._loaded(generation_id, codec, seq)
                    continue  # the log tells what changed, and whether the generation is still the published one
                if changes:
                    view = applied(view, changes)
                if view.applied_seq >= seq:
                    self._view = view
                    return view

    def _kept(self) -> View | None:
        """The newest snapshot that fits."""
        try:
            view = self._snapshots.newest(self.id) if self._snapshots is not None else None
        except OSError as error:
            log.warning("the snapshots of %s cannot be looked at: %s", self.name, error)
            return None
        if view is not None and view.generation_id is not None:
            self._codecs = {view.generation_id: view.codec}
            log.info("%s starts from the snapshot %s", self.name, view.base.folder)
        return view

    def _loaded(self, generation_id: int | None, codec: Codec, seq: int) -> View:
        """The rows up to `seq`, read in short transactions: what changes meanwhile stands in the log after `seq`."""
        pages: list[tuple[RowArray, NDArray[np.uint8]]] = []
        last = 0
        while True:
            with self._database.reading() as session:
                if generation_id is None:
                    page = payload.vectors_after(session, self.id, last, PAGE)
                else:
                    page = payload.codes_after(session, generation_id, last, PAGE)
            page = [(row, stored) for row, stored in page if row <= seq]
            if not page:
                break
            rows = np.array([row for row, _ in page], np.int64)
            pages.append((rows, payload_codes(codec, [stored for _, stored in page])))
            last = page[-1][0]
        return View.of(
            generation_id,
            codec,
            seq,
            np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in pages)]),
            np.concatenate([np.empty((0, codec.code_bytes), np.uint8), *(codes for _, codes in pages)]),
        )

    def tuning(self, generation_id: int) -> Tuning:
        """What searches with the generation's codes take where they name nothing else, read once.

        Raises:
            CollectionNotFound: it was deleted.
        """
        if generation_id not in self._tunings:
            with self._database.reading() as session:
                row = session.get(GenerationRow, generation_id)
            if row is None:
                raise CollectionNotFound(self.name, field="collection")
            self._tunings[generation_id] = Tuning(
                row.oversample, row.certificate.get("scan", 1), row.certificate.get("margin")
            )
        return self._tunings[generation_id]

    def codec(self, session: Session, generation_id: int | None) -> Codec:
        """The codec of a generation, read once; the flat one where nothing is trained."""
        if generation_id is None:
            return FlatCodec(self.dim, self.metric)
        codec = self._codecs.get(generation_id)
        if codec is None:
            codec = load_codec(session.get_one(GenerationRow, generation_id).codec)
            self._codecs = {generation_id: codec}
        return codec


def payload_codes(codec: Codec, payloads: Sequence[bytes]) -> NDArray[np.uint8]:
    """(n, code_bytes) of stored codes, or of stored vectors where nothing is trained yet."""
    if isinstance(codec, FlatCodec):
        return codec.encode(decoded(payloads, codec.dim))
    return np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), codec.code_bytes)


def applied(view: View, changes: Sequence[store.Change]) -> View:
    """The view after these entries of the log, which follow on what it holds."""
    # A row is named by the seq that brought it; a change that names an older row changed only metadata.
    added = [(change.seq, change.payload) for change in changes if change.row_id == change.seq and change.payload]
    removed = [change.old_row_id for change in changes if change.old_row_id is not None]
    codes = payload_codes(view.codec, [stored for _, stored in added])
    rows = np.array([row for row, _ in added], np.int64)
    return view.applied(changes[-1].seq, rows, codes, np.array(removed, np.int64))
