"""The statements over items' metadata, for the view that filters look into. Knows no vectors and no filter."""

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.tables import ChangeRow, ItemRow


class MetadataChange(NamedTuple):
    """One entry of the log, with what its row's metadata is now."""

    seq: int
    row_id: int | None
    old_row_id: int | None
    metadata: str | None
    """JSON; none for a delete, and where the row is already gone again: a later entry removes it."""


def metadata_after(session: Session, collection_id: int, row_id: int, limit: int) -> list[tuple[int, str]]:
    """The metadata of the next rows, as JSON."""
    statement = select(ItemRow.row_id, ItemRow.item_metadata).where(
        ItemRow.collection_id == collection_id, ItemRow.row_id > row_id
    )
    return [(row, metadata) for row, metadata in session.execute(statement.order_by(ItemRow.row_id).limit(limit))]


def metadata_changes(session: Session, collection_id: int, seq: int, limit: int) -> list[MetadataChange]:
    """The log after `seq`, in order."""
    own = (ItemRow.collection_id == collection_id) & (ItemRow.row_id == ChangeRow.row_id)
    statement = select(ChangeRow.seq, ChangeRow.row_id, ChangeRow.old_row_id, ItemRow.item_metadata)
    statement = statement.outerjoin(ItemRow, own)
    statement = statement.where(ChangeRow.collection_id == collection_id, ChangeRow.seq > seq)
    return [MetadataChange(*row) for row in session.execute(statement.order_by(ChangeRow.seq).limit(limit))]
