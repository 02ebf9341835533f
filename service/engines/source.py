"""A collection as an engine gets it: every row with its code, or what the log changed. Knows no engine."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from service.errors import NotTrained
from service.store import payload, store
from service.store.tables import GenerationRow

PAGE = 2_000
"""Items, or entries of the log, in a batch."""


class Row(NamedTuple):
    """A vector of an item: its only one, but for items whose texts are cut into chunks."""

    row_id: int
    item_id: str
    metadata: str
    """JSON."""
    code: bytes


class Batch(NamedTuple):
    """What an engine is to do next."""

    gone: list[int]
    """Rows to remove; some of them it may never have had."""
    rows: list[Row]
    """Rows to keep, instead of those of the same row ids."""


class Source:
    """One collection in the one moment that its session sees.

    Raises:
        CollectionNotFound; NotTrained: nothing is published, so there are no codes.
    """

    def __init__(self, session: Session, name: str) -> None:
        row = store.found_collection(session, name)
        if row.generation_id is None:
            raise NotTrained(row.name, field="collection")
        self.name = row.name
        self.seq, self.floor_seq, self.row_count = row.seq, row.floor_seq, row.row_count
        self.generation_id = row.generation_id
        self.fingerprint = session.get_one(GenerationRow, row.generation_id).fingerprint
        self._session = session
        self._id = row.id

    def codec(self) -> bytes:
        """As it is saved."""
        return self._session.get_one(GenerationRow, self.generation_id).codec

    def whole(self) -> Iterator[Batch]:
        """Every row."""
        last = 0
        while page := store.items_after(self._session, self._id, last, PAGE):
            yield Batch([], self._rows(page))
            last = page[-1].row_id

    def since(self, seq: int) -> Iterator[Batch]:
        """What the log changed after `seq`. Rows of an item stand together in one batch, as they are now; what came and
        went meanwhile stands in none.
        """
        while changes := store.changes_after(self._session, self._id, self.generation_id, seq, PAGE):
            touched = [change.row_id for change in changes if change.row_id is not None]
            gone = [change.old_row_id for change in changes if change.old_row_id is not None]
            items = store.items_by_row(self._session, self._id, touched)
            yield Batch(gone, self._rows(list(items.values())))
            seq = changes[-1].seq

    def _rows(self, items: Sequence[store.Item]) -> list[Row]:
        codes = payload.codes_by_row(self._session, self.generation_id, [row for item in items for row in item.rows])
        return [Row(row, item.item_id, item.metadata, codes[row]) for item in items for row in item.rows]
