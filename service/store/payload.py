"""The statements over what a row carries: its vector, and its code in each generation. Knows no items and no log."""

import json
from collections.abc import Iterable, Sequence

from sqlalchemy import bindparam, delete, exists, func, select
from sqlalchemy.orm import Session

from service.store.bulk import IsGiven, Reads, chunks, insert_rows
from service.store.tables import CodeRow, VectorRow

VECTORS = select(VectorRow.row_id, VectorRow.vector).where(
    VectorRow.collection_id == bindparam("collection"), IsGiven(VectorRow.row_id)
)


def vectors_by_row(database: Reads, collection_id: int, row_ids: Sequence[int]) -> dict[int, bytes]:
    """The stored vectors of `row_ids`, without those that are gone."""
    found = database.execute(VECTORS, {"collection": collection_id, "rows": json.dumps(list(row_ids))})
    return {row: vector for row, vector in found}  # noqa: C416 - mypy takes no rows for pairs


def vectors_after(session: Session, collection_id: int, row_id: int, limit: int) -> list[tuple[int, bytes]]:
    """The next vectors of a collection in the order of rows."""
    statement = select(VectorRow.row_id, VectorRow.vector).where(
        VectorRow.collection_id == collection_id, VectorRow.row_id > row_id
    )
    return [(row, vector) for row, vector in session.execute(statement.order_by(VectorRow.row_id).limit(limit))]


def rows_after(session: Session, collection_id: int, row_id: int, limit: int) -> list[int]:
    """The next rows whose vectors are kept."""
    statement = select(VectorRow.row_id).where(VectorRow.collection_id == collection_id, VectorRow.row_id > row_id)
    return list(session.scalars(statement.order_by(VectorRow.row_id).limit(limit)))


def newest_rows(session: Session, collection_id: int, row_id: int, limit: int) -> list[int]:
    """The newest rows after `row_id` whose vectors are kept, newest first."""
    statement = select(VectorRow.row_id).where(VectorRow.collection_id == collection_id, VectorRow.row_id > row_id)
    return list(session.scalars(statement.order_by(VectorRow.row_id.desc()).limit(limit)))


def some_codes(session: Session, generation_id: int, last: int, pages: int, limit: int) -> dict[int, bytes]:
    """Codes of a generation by their rows: pages of `limit`, evenly spaced over the rows up to `last`."""
    found: dict[int, bytes] = {}
    for page in range(pages):
        found |= dict(codes_after(session, generation_id, last * page // pages, limit))
    return {row: code for row, code in found.items() if row <= last}


def last_code(session: Session, generation_id: int) -> int:
    """The last row that has a code in a generation, 0 where none has."""
    return session.scalar(select(func.max(CodeRow.row_id)).where(CodeRow.generation_id == generation_id)) or 0


def rows_alive(session: Session, collection_id: int, first: int, last: int) -> set[int]:
    """Row ids from `first` to `last` that exist."""
    statement = select(VectorRow.row_id).where(
        VectorRow.collection_id == collection_id, VectorRow.row_id.between(first, last)
    )
    return set(session.scalars(statement))


def count_rows(session: Session, collection_id: int) -> int:
    """How many vectors the collection has."""
    statement = select(func.count()).select_from(VectorRow).where(VectorRow.collection_id == collection_id)
    return session.scalar(statement) or 0


def drop_vectors(session: Session, collection_id: int, row_ids: Sequence[int]) -> None:
    """Frees vectors; their items and codes stay."""
    for chunk in chunks(row_ids):
        session.execute(delete(VectorRow).where(VectorRow.collection_id == collection_id, VectorRow.row_id.in_(chunk)))


def codes_by_row(session: Session, generation_id: int, row_ids: Sequence[int]) -> dict[int, bytes]:
    """The codes of `row_ids` in a generation, without those that are gone."""
    found: dict[int, bytes] = {}
    for chunk in chunks(row_ids):
        statement = select(CodeRow.row_id, CodeRow.code).where(
            CodeRow.generation_id == generation_id, CodeRow.row_id.in_(chunk)
        )
        found |= dict(session.execute(statement).all())
    return found


def codes_after(session: Session, generation_id: int, row_id: int, limit: int) -> list[tuple[int, bytes]]:
    """The next codes of a generation in the order of rows."""
    statement = select(CodeRow.row_id, CodeRow.code).where(
        CodeRow.generation_id == generation_id, CodeRow.row_id > row_id
    )
    return [(row, code) for row, code in session.execute(statement.order_by(CodeRow.row_id).limit(limit))]


def vectors_without_code(
    session: Session, collection_id: int, generation_id: int, row_id: int, limit: int
) -> list[tuple[int, bytes]]:
    """The next vectors after `row_id` that the generation has no code of."""
    coded = exists().where(CodeRow.generation_id == generation_id, CodeRow.row_id == VectorRow.row_id)
    statement = select(VectorRow.row_id, VectorRow.vector).where(
        VectorRow.collection_id == collection_id, VectorRow.row_id > row_id, ~coded
    )
    return [(row, vector) for row, vector in session.execute(statement.order_by(VectorRow.row_id).limit(limit))]


def add_codes(session: Session, generation_id: int, codes: Iterable[tuple[int, bytes]]) -> None:
    """Stores codes of rows that have none in the generation yet."""
    values = [{"generation_id": generation_id, "row_id": row_id, "code": code} for row_id, code in codes]
    insert_rows(session, CodeRow, values)


def retire_codes(session: Session, generation_id: int, limit: int) -> bool:
    """Frees up to `limit` codes of a generation that is no longer published; whether there were any."""
    some = select(CodeRow.row_id).where(CodeRow.generation_id == generation_id).order_by(CodeRow.row_id).limit(limit)
    rows = list(session.scalars(some))
    if rows:
        session.execute(delete(CodeRow).where(CodeRow.generation_id == generation_id, CodeRow.row_id <= rows[-1]))
    return bool(rows)
