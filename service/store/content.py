"""The statements over what items hold beside vectors, for the views of it. Knows no filter and no words."""

from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import String, cast, select
from sqlalchemy.orm import Session

from service.store.store import item_rows
from service.store.tables import ChangeRow, ItemRow


class Content(StrEnum):
    """What there is of an item."""

    METADATA = "metadata"
    """JSON."""
    TEXT = "text"
    ROWS = "rows"
    """How many it has, in digits."""

    @property
    def column(self):  # type: ignore[no-untyped-def]
        """Of the table of items."""
        if self is Content.ROWS:
            return cast(item_rows(), String)
        return ItemRow.text if self is Content.TEXT else ItemRow.item_metadata


class ContentChange(NamedTuple):
    """One entry of the log, with what its row's content is now."""

    seq: int
    row_id: int | None
    old_row_id: int | None
    content: str | None
    """None for a delete, where there is no text, and where the row is already gone again: a later entry removes it."""


def content_after(
    session: Session, collection_id: int, content: Content, row_id: int, limit: int
) -> list[tuple[int, str | None]]:
    """The content of the next rows."""
    statement = select(ItemRow.row_id, content.column).where(
        ItemRow.collection_id == collection_id, ItemRow.row_id > row_id
    )
    return [(row, held) for row, held in session.execute(statement.order_by(ItemRow.row_id).limit(limit))]


def content_changes(
    session: Session, collection_id: int, content: Content, seq: int, limit: int
) -> list[ContentChange]:
    """The log after `seq`, in order."""
    own = (ItemRow.collection_id == collection_id) & (ItemRow.row_id == ChangeRow.row_id)
    statement = select(ChangeRow.seq, ChangeRow.row_id, ChangeRow.old_row_id, content.column)
    statement = statement.outerjoin(ItemRow, own)
    statement = statement.where(ChangeRow.collection_id == collection_id, ChangeRow.seq > seq)
    return [ContentChange(*row) for row in session.execute(statement.order_by(ChangeRow.seq).limit(limit))]
