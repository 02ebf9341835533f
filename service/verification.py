"""Compares a database with itself, and snapshots with it: items, vectors, codes, log and codecs.

Knows no HTTP and changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import Codec, CodecError, cut_codes, load_codec
from service.errors import SnapshotRefused
from service.follower import PAGE, applied
from service.index.view import View
from service.originals import Originals, decoded
from service.snapshots import Kept, Published, Snapshots
from service.store import payload, store
from service.store.database import Database
from service.store.tables import ChangeRow, CodeRow, CollectionRow, GenerationRow, ItemRow, VectorRow

SAMPLE = 1_000
"""Codes that are made again from their vectors."""


class Difference(NamedTuple):
    """Something that does not fit together."""

    collection: str
    what: str


def verify(database: Database, name: str | None = None, snapshots: Snapshots | None = None) -> Iterator[Difference]:
    """Every difference in one collection, or in all; each collection is looked at in one state, and `snapshots` beside.

    Raises:
        CollectionNotFound
    """
    with database.reading() as session:
        names = [name] if name is not None else list(session.scalars(select(CollectionRow.name)))
    for one in names:
        with database.reading() as session:
            row = store.found_collection(session, one)
        # Before the state is looked at: what is published later, it need not know.
        kept = snapshots.listed(row.id) if snapshots is not None else []
        with database.reading() as session:
            row = store.found_collection(session, one)
            yield from (Difference(row.name, what) for what in _differences(session, row))
            yield from (Difference(row.name, what) for what in _snapshot_differences(session, row, kept))


def _differences(session: Session, row: CollectionRow) -> Iterator[str]:
    def count(statement: Select[int]) -> int:
        return session.scalar(statement) or 0

    items = select(func.count()).select_from(ItemRow).where(ItemRow.collection_id == row.id)
    vectors = select(func.count()).select_from(VectorRow).where(VectorRow.collection_id == row.id)
    changes = select(func.count()).select_from(ChangeRow).where(ChangeRow.collection_id == row.id)
    rows = store.counted_rows(session, row.id)
    if (there := count(items)) != row.item_count:
        yield f"it counts {row.item_count} items and holds {there}"
    if rows != row.row_count:
        yield f"it counts {row.row_count} rows and holds {rows}"
    if (there := store.counted_bytes(session, row)) != row.stored_bytes:
        yield f"it counts {row.stored_bytes} bytes and holds {there}"
    if (there := count(changes)) != row.seq - row.floor_seq:
        yield f"its log has {there} entries between seq {row.floor_seq} and {row.seq}"
    if (surplus := count(vectors.where(~_of_an_item(row, VectorRow.row_id)))) != 0:
        yield f"{surplus} vectors belong to no item"
    every_vector = _all_rows(VectorRow.row_id, VectorRow.collection_id == row.id)
    if (row.originals != Originals.DROP or row.generation_id is None) and (lost := count(items.where(~every_vector))):
        yield f"{lost} items have no vector"
    if row.generation_id is None:
        return
    codes = select(func.count()).select_from(CodeRow).where(CodeRow.generation_id == row.generation_id)
    every_code = _all_rows(CodeRow.row_id, CodeRow.generation_id == row.generation_id)
    if lost := count(items.where(~every_code)):
        yield f"{lost} items have no code in generation {row.generation_id}"
    if surplus := count(codes.where(~_of_an_item(row, CodeRow.row_id))):
        yield f"{surplus} codes of generation {row.generation_id} belong to no item"
    yield from _codec_differences(session, row)


def _of_an_item(row: CollectionRow, row_id: InstrumentedAttribute[int]) -> ColumnElement[bool]:
    """Whether a row is one of those of the item that begins last before it, or with it."""
    end = select(ItemRow.row_id + store.item_rows()).where(ItemRow.collection_id == row.id, ItemRow.row_id <= row_id)
    return func.coalesce(end.order_by(ItemRow.row_id.desc()).limit(1).scalar_subquery(), 0) > row_id


def _all_rows(row_id: InstrumentedAttribute[int], own: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether each row of an item is there."""
    within = row_id.between(ItemRow.row_id, ItemRow.row_id + store.item_rows() - 1)
    return select(func.count()).where(own, within).correlate(ItemRow).scalar_subquery() == store.item_rows()


def _codec_differences(session: Session, row: CollectionRow) -> Iterator[str]:
    generation = session.get(GenerationRow, row.generation_id)
    if generation is None:
        yield f"its generation {row.generation_id} is missing"
        return
    try:
        codec = load_codec(generation.codec)
    except CodecError as error:
        yield f"the codec of generation {generation.id} cannot be read: {error}"
        return
    if codec.fingerprint != generation.fingerprint:
        yield f"the codec of generation {generation.id} is {codec.fingerprint}, published was {generation.fingerprint}"
    elif other := _codes_made_otherwise(session, row, generation, codec):
        yield f"{other} of {SAMPLE} codes looked at are not those of their vectors"


def _codes_made_otherwise(session: Session, row: CollectionRow, generation: GenerationRow, codec: Codec) -> int:
    """Codes that were cut are so from what the codec before makes; those of later items are the codec's own."""
    page = payload.vectors_after(session, row.id, 0, SAMPLE)
    codes = payload.codes_by_row(session, row.generation_id or 0, [row_id for row_id, _ in page])
    kept = [(codes[row_id], vector) for row_id, vector in page if row_id in codes]
    if not kept:
        return 0
    stored = np.frombuffer(b"".join(code for code, _ in kept), np.uint8).reshape(len(kept), -1)
    if stored.shape[1] != codec.code_bytes:
        return len(kept)
    vectors, chain = decoded([vector for _, vector in kept], codec.dim), [codec]
    while True:
        made = chain[-1].encode(vectors)
        for whole, shorter in zip(chain[:0:-1], chain[-2::-1], strict=True):
            made = cut_codes(whole, made, shorter)
        other = (made != stored).any(axis=1)
        vectors, stored = vectors[other], stored[other]
        if not len(stored) or (cut := generation.certificate.get("cut_from")) is None:
            return len(stored)
        generation = session.get_one(GenerationRow, cut["generation"])
        try:
            chain.append(load_codec(generation.codec))
        except CodecError:
            return len(stored)  # without it nobody knows


def _snapshot_differences(session: Session, row: CollectionRow, listed: Sequence[Kept]) -> Iterator[str]:
    """A snapshot of an older generation waits to be replaced, and nobody starts from it."""
    published = Published.of(session, row)
    for kept in listed:
        if published is None or kept.generation_id != published.generation_id:
            continue
        try:
            view = published.checked(kept)
        except SnapshotRefused as refused:
            if kept.folder.exists():  # else a newer one has replaced it meanwhile
                yield f"its snapshot {kept.folder.name} is refused: {refused}"
            continue
        while changes := store.changes_after(session, row.id, view.generation_id, view.applied_seq, PAGE):
            view = applied(view, changes)
        if other := _codes_unlike(session, published.generation_id, view):
            yield f"{other} codes of its snapshot {kept.folder.name} are not those of the database"


def _codes_unlike(session: Session, generation_id: int, view: View) -> int:
    """How many codes are in one of them only, or differ."""
    live = view.live_rows()
    last, same, there = 0, 0, 0
    while page := payload.codes_after(session, generation_id, last, PAGE):
        rows = np.array([row_id for row_id, _ in page], np.int64)
        codes = np.frombuffer(b"".join(code for _, code in page), np.uint8).reshape(len(page), -1)
        same += int((np.isin(rows, live) & (view.codes_of(rows) == codes).all(axis=1)).sum())
        last, there = page[-1][0], there + len(page)
    return there + len(live) - 2 * same
