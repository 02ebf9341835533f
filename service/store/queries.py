"""Statements on the queries that a collection's codecs are measured by. Knows no codec."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.store import store
from service.store.tables import CollectionRow, QueryRow

MOST = 2_000
"""Given ones of a collection that are kept, the newest, and as many logged ones."""


class Held(NamedTuple):
    """How many queries a collection has."""

    given: int
    logged: int


def add(session: Session, collection_id: int, vectors: Sequence[bytes], *, logged: bool, now: float) -> None:
    """Keeps vectors of queries, and no more than MOST of those that came the same way."""
    session.add_all(
        QueryRow(collection_id=collection_id, vector=vector, logged=logged, created_at=now)
        for vector in vectors[-MOST:]
    )
    session.flush()
    alike = QueryRow.collection_id == collection_id, QueryRow.logged.is_(logged)
    newest_first = select(QueryRow.id).where(*alike).order_by(QueryRow.id.desc())
    if (last := session.scalars(newest_first.offset(MOST).limit(1)).first()) is not None:
        session.execute(delete(QueryRow).where(*alike, QueryRow.id <= last))


def newest(session: Session, collection_id: int) -> list[bytes]:
    """All vectors: given ones before logged ones, of each the newest first."""
    found = select(QueryRow.vector).where(QueryRow.collection_id == collection_id)
    return list(session.scalars(found.order_by(QueryRow.logged, QueryRow.id.desc())))


def held(session: Session, collection_id: int) -> Held:
    """How many there are."""
    counted = select(QueryRow.logged, func.count()).where(QueryRow.collection_id == collection_id)
    counts = {logged: number for logged, number in session.execute(counted.group_by(QueryRow.logged))}  # noqa: C416
    return Held(counts.get(False, 0), counts.get(True, 0))


def forget(session: Session, collection_id: int) -> None:
    """Removes all of them; what processes were asked until now is not logged either."""
    if (row := store.lock_collection(session, collection_id)) is not None:
        row.query_epoch += 1
    session.execute(delete(QueryRow).where(QueryRow.collection_id == collection_id))


def set_logged(row: CollectionRow, logged: bool) -> None:
    """Says whether queries are logged from now on: not those that processes were asked until now."""
    row.log_queries, row.query_epoch = logged, row.query_epoch + 1


def epochs(session: Session) -> dict[int, int]:
    """Of the collections whose queries are logged: what changes whenever queries of until then are not to be."""
    found = select(CollectionRow.id, CollectionRow.query_epoch).where(CollectionRow.log_queries)
    return {collection_id: epoch for collection_id, epoch in session.execute(found)}  # noqa: C416
