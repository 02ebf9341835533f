"""Statements on the queries that a collection's codecs are measured by. Knows no codec."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.store.tables import QueryRow

MOST = 2_000
"""Of a collection that are kept: the newest."""


class Held(NamedTuple):
    """How many queries a collection has."""

    given: int
    logged: int


def add(session: Session, collection_id: int, vectors: Sequence[bytes], *, logged: bool, now: float) -> None:
    """Keeps vectors of queries, and no more than MOST of the collection's."""
    session.add_all(
        QueryRow(collection_id=collection_id, vector=vector, logged=logged, created_at=now)
        for vector in vectors[-MOST:]
    )
    session.flush()
    newest = select(QueryRow.id).where(QueryRow.collection_id == collection_id).order_by(QueryRow.id.desc())
    if (last := session.scalars(newest.offset(MOST).limit(1)).first()) is not None:
        session.execute(delete(QueryRow).where(QueryRow.collection_id == collection_id, QueryRow.id <= last))


def newest(session: Session, collection_id: int, most: int) -> list[bytes]:
    """The newest vectors, no two of them equal, in the order in which they came."""
    found = select(QueryRow.vector).where(QueryRow.collection_id == collection_id).order_by(QueryRow.id.desc())
    return list(dict.fromkeys(session.scalars(found)))[:most][::-1]


def held(session: Session, collection_id: int) -> Held:
    """How many there are."""
    counted = select(QueryRow.logged, func.count()).where(QueryRow.collection_id == collection_id)
    counts = {logged: number for logged, number in session.execute(counted.group_by(QueryRow.logged))}  # noqa: C416
    return Held(counts.get(False, 0), counts.get(True, 0))


def forget(session: Session, collection_id: int) -> None:
    """Removes all of them."""
    session.execute(delete(QueryRow).where(QueryRow.collection_id == collection_id))
