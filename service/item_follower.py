"""A collection's view of one content of its items in one process, and how it follows the log. Knows no vectors."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import ClassVar, Generic, TypeVar

from sqlalchemy.orm import Session

from service.errors import CollectionNotFound
from service.index.chunks import ChunkView
from service.index.filters import FilterView
from service.index.text import TextView
from service.store.content import Content, ContentChange, content_after, content_changes
from service.store.database import Database
from service.store.tables import CollectionRow

PAGE = 5_000
"""Rows or log entries read in one short transaction."""

V = TypeVar("V", FilterView, TextView, ChunkView)


class ItemFollower(ABC, Generic[V]):
    """Holds the newest view; what was never asked for is not loaded."""

    content: ClassVar[Content]
    """What the view is made of."""

    def __init__(self, collection_id: int, name: str, database: Database) -> None:
        self._id = collection_id
        self._name = name
        self._database = database
        self._applying = Lock()
        self._view: V | None = None

    @abstractmethod
    def _made(self, seq: int, items: Iterator[tuple[int, str | None]]) -> V:
        """A view of all rows up to `seq`, which ascend, with the content of each."""

    @abstractmethod
    def _applied(self, view: V, changes: Sequence[ContentChange]) -> V:
        """The view after these entries of the log."""

    def view(self, seq: int) -> V:
        """The view, of `seq` or later.

        Raises:
            CollectionNotFound: it was deleted.
        """
        view = self._view
        return view if view is not None and view.applied_seq >= seq else self._caught_up()

    @property
    def loaded(self) -> V | None:
        """The view as it is; none where nobody has asked yet."""
        return self._view

    def follow(self) -> None:
        """Comes to the end of the log where there is a view."""
        if self._view is not None:
            self._caught_up()

    def is_behind(self, seq: int) -> bool:
        """Whether there is a view that has not come to `seq`."""
        view = self._view
        return view is not None and view.applied_seq < seq

    def advanced(self, session: Session, view: V) -> V:
        """`view` at the end of the log as this session sees it."""
        while changes := self._changes(session, view):
            view = self._applied(view, changes)
        return view

    def _caught_up(self) -> V:
        with self._applying:
            view = self._view
            while True:
                with self._database.reading() as session:
                    row = session.get(CollectionRow, self._id)
                    if row is None:
                        raise CollectionNotFound(self._name, field="collection")
                    seq, floor_seq = row.seq, row.floor_seq
                    fits = view is not None and view.applied_seq >= floor_seq
                    changes = self._changes(session, view) if view is not None and fits else []
                if view is None or not fits:
                    view = self._made(seq, self._items(seq))
                    continue  # the log tells what changed meanwhile
                view = self._applied(view, changes) if changes else view
                if view.applied_seq >= seq:
                    self._view = view
                    return view

    def _changes(self, session: Session, view: V) -> list[ContentChange]:
        return content_changes(session, self._id, self.content, view.applied_seq, PAGE)

    def _items(self, seq: int) -> Iterator[tuple[int, str | None]]:
        """The rows up to `seq`, read in short transactions: what changes meanwhile stands in the log after `seq`."""
        last = 0
        while True:
            with self._database.reading() as session:
                page = content_after(session, self._id, self.content, last, PAGE)
            for row, held in page:
                if row > seq:
                    return
                yield row, held
            if not page:
                return
            last = page[-1][0]
