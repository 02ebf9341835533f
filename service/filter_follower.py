"""A collection's view of all metadata in one process, and how it follows the log. Knows no vectors and no HTTP."""

import json
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from service.errors import CollectionNotFound
from service.index.filters import FilterView
from service.store import metadata
from service.store.database import Database
from service.store.tables import CollectionRow

PAGE = 5_000
"""Rows or log entries read in one short transaction."""


class FilterFollower:
    """Holds the newest view; what no filter was ever asked of is not loaded."""

    def __init__(self, collection_id: int, name: str, database: Database) -> None:
        self._id = collection_id
        self._name = name
        self._database = database
        self._applying = Lock()
        self._view: FilterView | None = None

    def view(self, seq: int) -> FilterView:
        """The view, of `seq` or later.

        Raises:
            CollectionNotFound: it was deleted.
        """
        view = self._view
        return view if view is not None and view.applied_seq >= seq else self._caught_up()

    def follow(self) -> None:
        """Comes to the end of the log where there is a view."""
        if self._view is not None:
            self._caught_up()

    def is_behind(self, seq: int) -> bool:
        """Whether there is a view that has not come to `seq`."""
        view = self._view
        return view is not None and view.applied_seq < seq

    def advanced(self, session: Session, view: FilterView) -> FilterView:
        """`view` at the end of the log as this session sees it."""
        while changes := metadata.metadata_changes(session, self._id, view.applied_seq, PAGE):
            view = _applied(view, changes)
        return view

    def _caught_up(self) -> FilterView:
        with self._applying:
            view = self._view
            while True:
                with self._database.reading() as session:
                    row = session.get(CollectionRow, self._id)
                    if row is None:
                        raise CollectionNotFound(self._name, field="collection")
                    seq, floor_seq = row.seq, row.floor_seq
                    fits = view is not None and view.applied_seq >= floor_seq
                    if view is not None and fits:
                        changes = metadata.metadata_changes(session, self._id, view.applied_seq, PAGE)
                if view is None or not fits:
                    view = self._loaded(seq)
                    continue  # the log tells what changed meanwhile
                view = _applied(view, changes) if changes else view
                if view.applied_seq >= seq:
                    self._view = view
                    return view

    def _loaded(self, seq: int) -> FilterView:
        """The rows up to `seq`, read in short transactions: what changes meanwhile stands in the log after `seq`."""
        rows: list[int] = []

        def pages() -> Iterator[Mapping[str, Any]]:
            last = 0
            while True:
                with self._database.reading() as session:
                    page = metadata.metadata_after(session, self._id, last, PAGE)
                for row, content in page:
                    if row > seq:
                        return
                    rows.append(row)
                    yield json.loads(content)
                if not page:
                    return
                last = page[-1][0]

        return FilterView.of(seq, rows, pages())


def _applied(view: FilterView, changes: list[metadata.MetadataChange]) -> FilterView:
    changed = {
        change.row_id: json.loads(change.metadata)
        for change in changes
        if change.row_id is not None and change.metadata is not None
    }
    removed = [change.old_row_id for change in changes if change.old_row_id is not None]
    return view.applied(changes[-1].seq, changed, np.array(removed, np.int64))
