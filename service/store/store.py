"""The statements over collections, items and the log. Knows no vectors' meaning, no transaction's end and no HTTP."""

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Integer, LargeBinary, bindparam, cast, delete, func, select
from sqlalchemy.orm import Session

from service.errors import CollectionNotFound
from service.span import BYTES, Span, unpacked
from service.store import payload
from service.store.bulk import IsGiven, Reads, chunks, insert_rows
from service.store.tables import (
    AliasRow,
    ChangeRow,
    CodeRow,
    CollectionRow,
    GenerationRow,
    ItemRow,
    VectorRow,
)

EVERY_ITEM = select(
    ItemRow.item_id,
    ItemRow.row_id,
    ItemRow.digest,
    ItemRow.text,
    ItemRow.item_metadata,
    ItemRow.created_at,
    ItemRow.updated_at,
    ItemRow.seq,
    ItemRow.chunks,
)
"""In the order of an `Item`'s fields."""
ITEMS = EVERY_ITEM.where(ItemRow.collection_id == bindparam("collection"), IsGiven(ItemRow.row_id))
ALIASED = select(AliasRow.collection_id).where(AliasRow.name == bindparam("called")).scalar_subquery()
NAMES = select(CollectionRow.id, CollectionRow.name).where(
    (CollectionRow.name == bindparam("called")) | (CollectionRow.id == ALIASED)
)


class Item(NamedTuple):
    """An item as it is stored."""

    item_id: str
    row_id: int
    digest: bytes
    text: str | None
    metadata: str
    created_at: float
    updated_at: float
    seq: int
    """Its last change."""
    chunks: bytes | None
    """Where they are in the text, packed; none where it is not cut."""

    @property
    def spans(self) -> list[Span]:
        """Its chunks in their order; none where the text is not cut."""
        return [] if self.chunks is None else unpacked(self.chunks)

    @property
    def rows(self) -> range:
        """Of its vectors, one a chunk."""
        return range(self.row_id, self.row_id + rows_of(self.chunks))


class Change(NamedTuple):
    """One entry of the log, with the code (or, where no generation is published, the vector) of its row."""

    seq: int
    row_id: int | None
    old_row_id: int | None
    payload: bytes | None
    """None where the row is already gone again: a later entry removes it."""


class Size(NamedTuple):
    """How much one collection keeps, or several together."""

    items: int
    bytes: int


class Head(NamedTuple):
    """How far a collection's log goes, and under which generation."""

    seq: int
    generation_id: int | None


@dataclass(frozen=True)
class Write:
    """One item's change, ready to be stored."""

    item_id: str
    digest: bytes
    text: str | None
    metadata: str
    chunks: bytes | None
    """Where they are in the text, packed; none where it is not cut."""
    vectors: Sequence[bytes] = ()
    """One a chunk, or one; none where originals are dropped."""
    codes: Sequence[bytes] = ()
    """Under the published generation, likewise; none where there is none."""

    @property
    def moves(self) -> bool:
        """Whether the item gets rows; where only metadata changed it keeps its own."""
        return bool(self.vectors or self.codes)


def rows_of(chunks: bytes | None) -> int:
    """How many rows an item with these packed chunks has."""
    return 1 if chunks is None else len(chunks) // BYTES


def item_rows() -> ColumnElement[int]:
    """The same in SQL, of ItemRow."""
    return func.coalesce(func.length(ItemRow.chunks, type_=Integer) // BYTES, 1)


VECTOR_BYTES = {"float32": 4, "float16": 2, "drop": 0}
"""Of a number, by how a collection keeps its originals."""


def size_of(collection: CollectionRow) -> Size:
    """What one collection keeps."""
    return Size(collection.item_count, collection.stored_bytes)


def total_size(session: Session, names: Set[str] | None) -> Size:
    """What the collections of those names keep together, or all where there are no names."""
    counts = CollectionRow.item_count, CollectionRow.stored_bytes
    statement = select(*(func.coalesce(func.sum(count), 0) for count in counts))
    if names is not None:
        statement = statement.where(CollectionRow.name.in_(names))
    return Size(*map(int, session.execute(statement).one()))


def counted_bytes(session: Session, collection: CollectionRow) -> int:
    """What `stored_bytes` should be, of every item."""
    is_sqlite = session.connection().dialect.name == "sqlite"  # whose octet_length is newer than many that are in use
    sizes = [
        func.coalesce(func.sum(func.length(cast(part, LargeBinary)) if is_sqlite else func.octet_length(part)), 0)
        for part in (ItemRow.item_id, ItemRow.text, ItemRow.item_metadata)
    ]
    texts = session.execute(select(*sizes).where(ItemRow.collection_id == collection.id)).one()
    rows = counted_rows(session, collection.id)
    return sum(map(int, texts)) + rows * collection.dimension * VECTOR_BYTES[collection.originals]


def counted_rows(session: Session, collection_id: int) -> int:
    """What `row_count` should be, of every item."""
    statement = select(func.coalesce(func.sum(item_rows()), 0)).where(ItemRow.collection_id == collection_id)
    return int(session.scalar(statement) or 0)


def find_collection(session: Session, name: str, *, lock: bool = False) -> CollectionRow | None:
    """The collection of that name or alias; with `lock`, no other writer touches it until the transaction ends."""
    aliased = select(AliasRow.collection_id).where(AliasRow.name == name).scalar_subquery()
    statement = select(CollectionRow).where((CollectionRow.name == name) | (CollectionRow.id == aliased))
    return session.scalars(statement.with_for_update() if lock else statement).first()


def found_collection(session: Session, name: str, *, lock: bool = False) -> CollectionRow:
    """As `find_collection`, where it must be there.

    Raises:
        CollectionNotFound
    """
    row = find_collection(session, name, lock=lock)
    if row is None:
        raise CollectionNotFound(name, field="collection")
    return row


def name_of(database: Reads, name: str) -> tuple[int, str] | None:
    """Id and own name of the collection of that name or alias, and nothing else of it: cheaper."""
    return next(((found, own) for found, own in database.execute(NAMES, {"called": name})), None)


def lock_collection(session: Session, collection_id: int, *, skip_locked: bool = False) -> CollectionRow | None:
    """The collection's row under its lock; none where it was deleted or, with `skip_locked`, another has the lock."""
    statement = select(CollectionRow).where(CollectionRow.id == collection_id).with_for_update(skip_locked=skip_locked)
    return session.scalars(statement.execution_options(populate_existing=True)).first()


def heads(session: Session) -> dict[int, Head]:
    """The head of every collection, by its id."""
    rows = session.execute(select(CollectionRow.id, CollectionRow.seq, CollectionRow.generation_id))
    return {collection_id: Head(seq, generation_id) for collection_id, seq, generation_id in rows}


def items_by_id(session: Session, collection_id: int, ids: Sequence[str]) -> dict[str, Item]:
    """The items that exist among `ids`."""
    found: dict[str, Item] = {}
    for chunk in chunks(ids):
        statement = _items(collection_id).where(ItemRow.item_id.in_(chunk))
        found |= {row.item_id: Item(*row) for row in session.execute(statement)}
    return found


def items_by_row(database: Reads, collection_id: int, row_ids: Sequence[int]) -> dict[int, Item]:
    """The items whose current row is among `row_ids`."""
    found = database.execute(ITEMS, {"collection": collection_id, "rows": json.dumps(list(row_ids))})
    return {item.row_id: item for item in map(Item._make, found)}


def items_after(session: Session, collection_id: int, row_id: int, limit: int) -> list[Item]:
    """The next items in the order of their rows."""
    statement = _items(collection_id).where(ItemRow.row_id > row_id).order_by(ItemRow.row_id).limit(limit)
    return [Item(*row) for row in session.execute(statement)]


def write_items(session: Session, collection: CollectionRow, writes: Sequence[Write], now: float) -> None:
    """Upserts under the collection's lock: items, rows, codes and the log; counts seq on, by one for each row that
    comes, goes or is replaced, and for metadata that changed alone. The rows of an item follow on each other.

    Ids must differ from each other; what has not changed must not be among them.
    """
    existing = items_by_id(session, collection.id, [write.item_id for write in writes])
    items, rows, codes, changes = [], [], [], []
    stale: list[int] = []
    for write in writes:
        old = existing.get(write.item_id)
        if old is None and not write.moves:
            raise ValueError(f"item {write.item_id!r} is new and has no vector")
        first = collection.seq + 1
        row_id, chunks = (first, write.chunks) if write.moves or old is None else (old.row_id, old.chunks)
        gone = old.rows if old is not None and write.moves else range(0)
        stale += gone
        rows += [
            {"collection_id": collection.id, "row_id": row, "vector": vector}
            for row, vector in enumerate(write.vectors, first)
        ]
        codes += [
            {"generation_id": collection.generation_id, "row_id": row, "code": code}
            for row, code in enumerate(write.codes, first)
        ]
        kind = "insert" if old is None else "update"
        here = range(first, first + rows_of(chunks)) if write.moves else range(row_id, row_id + 1)
        changes += _logged(collection, kind, here, gone)
        items.append(
            {
                "collection_id": collection.id,
                "item_id": write.item_id,
                "row_id": row_id,
                "chunks": chunks,
                "digest": write.digest,
                "text": write.text,
                "item_metadata": write.metadata,
                "created_at": now if old is None else old.created_at,
                "updated_at": now,
                "seq": collection.seq,
            }
        )
        collection.row_count += rows_of(chunks) - (0 if old is None else len(old.rows))
        collection.stored_bytes += _bytes(collection, write, rows_of(chunks))
    collection.stored_bytes -= sum(_bytes(collection, item, len(item.rows)) for item in existing.values())
    _remove_items(session, collection.id, [write.item_id for write in writes if write.item_id in existing])
    _remove_rows(session, collection.id, stale)
    for table, values in ((ItemRow, items), (VectorRow, rows), (CodeRow, codes), (ChangeRow, changes)):
        insert_rows(session, table, values)
    collection.item_count += len(writes) - len(existing)


def delete_items(session: Session, collection: CollectionRow, ids: Sequence[str]) -> set[str]:
    """Removes those of `ids` that exist, under the collection's lock, and returns them."""
    existing = items_by_id(session, collection.id, ids)
    changes = [entry for item in existing.values() for entry in _logged(collection, "delete", range(0), item.rows)]
    gone = [row for item in existing.values() for row in item.rows]
    collection.stored_bytes -= sum(_bytes(collection, item, len(item.rows)) for item in existing.values())
    insert_rows(session, ChangeRow, changes)
    _remove_items(session, collection.id, list(existing))
    _remove_rows(session, collection.id, gone)
    collection.item_count -= len(existing)
    collection.row_count -= len(gone)
    return set(existing)


def changes_after(
    session: Session, collection_id: int, generation_id: int | None, seq: int, limit: int
) -> list[Change]:
    """The log from `seq` on, in order, with each row's code in that generation."""
    if generation_id is None:
        own = (VectorRow.collection_id == collection_id) & (VectorRow.row_id == ChangeRow.row_id)
        statement = select(ChangeRow.seq, ChangeRow.row_id, ChangeRow.old_row_id, VectorRow.vector)
        statement = statement.outerjoin(VectorRow, own)
    else:
        own = (CodeRow.generation_id == generation_id) & (CodeRow.row_id == ChangeRow.row_id)
        statement = select(ChangeRow.seq, ChangeRow.row_id, ChangeRow.old_row_id, CodeRow.code)
        statement = statement.outerjoin(CodeRow, own)
    statement = statement.where(ChangeRow.collection_id == collection_id, ChangeRow.seq > seq)
    return [Change(*row) for row in session.execute(statement.order_by(ChangeRow.seq).limit(limit))]


def purge_changes(session: Session, collection: CollectionRow, keep: int, limit: int) -> bool:
    """Cuts up to `limit` of the oldest entries off the log, under the collection's lock; whether any were to be cut."""
    floor = min(collection.seq - keep, collection.floor_seq + limit)
    if floor <= collection.floor_seq:
        return False
    session.execute(delete(ChangeRow).where(ChangeRow.collection_id == collection.id, ChangeRow.seq <= floor))
    collection.floor_seq = floor
    return True


def _logged(collection: CollectionRow, kind: str, here: range, gone: range) -> list[dict[str, object]]:
    """The entries of one write, of an item's rows in its place and those before; counts seq on."""
    entries: list[dict[str, object]] = []
    for place in range(max(len(here), len(gone))):
        collection.seq += 1
        entries.append(
            {
                "collection_id": collection.id,
                "seq": collection.seq,
                "kind": "chunk" if place else kind,
                "row_id": here[place] if place < len(here) else None,
                "old_row_id": gone[place] if place < len(gone) else None,
            }
        )
    return entries


def _bytes(collection: CollectionRow, item: Item | Write, rows: int) -> int:
    texts = item.item_id, item.text or "", item.metadata
    return sum(len(text.encode()) for text in texts) + rows * collection.dimension * VECTOR_BYTES[collection.originals]


def _items(collection_id: int):  # type: ignore[no-untyped-def]
    return EVERY_ITEM.where(ItemRow.collection_id == collection_id)


def _remove_items(session: Session, collection_id: int, ids: Sequence[str]) -> None:
    for chunk in chunks(ids):
        session.execute(delete(ItemRow).where(ItemRow.collection_id == collection_id, ItemRow.item_id.in_(chunk)))


def _remove_rows(session: Session, collection_id: int, row_ids: Sequence[int]) -> None:
    generations = select(GenerationRow.id).where(GenerationRow.collection_id == collection_id)
    payload.drop_vectors(session, collection_id, row_ids)
    for chunk in chunks(row_ids):
        session.execute(delete(CodeRow).where(CodeRow.generation_id.in_(generations), CodeRow.row_id.in_(chunk)))
