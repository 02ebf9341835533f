"""The statements that put coded items in by the thousand. Knows no build and no transaction's end."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from service.store.bulk import insert_rows
from service.store.tables import CodeRow, CollectionRow, ItemRow

EMPTY = "{}"
"""Metadata."""
UNKNOWN = bytes(16)
"""Digest of what was never seen: whatever is ingested under the same id is a change."""


def append(session: Session, collection: CollectionRow, ids: Sequence[str], codes: Sequence[bytes], now: float) -> None:
    """Adds items with their codes of the published generation, under the collection's lock. They stand in no log: views
    are made of them, and none was made before. None of the ids may be there.
    """
    rows = range(collection.seq + 1, collection.seq + len(ids) + 1)
    insert_rows(
        session,
        ItemRow,
        [
            {
                "collection_id": collection.id,
                "item_id": item_id,
                "row_id": row,
                "digest": UNKNOWN,
                "item_metadata": EMPTY,
                "created_at": now,
                "updated_at": now,
                "seq": row,
            }
            for row, item_id in zip(rows, ids, strict=True)
        ],
    )
    insert_rows(
        session,
        CodeRow,
        [
            {"generation_id": collection.generation_id, "row_id": row, "code": code}
            for row, code in zip(rows, codes, strict=True)
        ],
    )
    collection.seq = collection.floor_seq = rows[-1]
    collection.item_count += len(ids)
    collection.row_count += len(ids)
    collection.stored_bytes += sum(len(item_id.encode()) + len(EMPTY) for item_id in ids)
