"""Many values in few statements. Knows tables as such, and none by name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import insert, inspect
from sqlalchemy.orm import Session

from service.store.tables import Base

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

MANY = 500
"""Values in one IN (...) list."""


def insert_rows(session: Session, table: type[Base], values: Sequence[Mapping[str, Any]]) -> None:
    """Adds rows, by COPY where there is PostgreSQL: several times the rows a second of INSERT."""
    if not values:
        return
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        session.execute(insert(table), values)
        return
    columns = [inspect(table).columns[name] for name in values[0]]
    names = ", ".join(column.name for column in columns)
    types = [column.type.compile(connection.dialect).partition("(")[0].lower() for column in columns]
    cursor = cast("psycopg.Cursor[Any]", connection.connection.cursor())
    with cursor.copy(f"COPY {table.__tablename__} ({names}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
        copy.set_types(types)
        for value in values:
            copy.write_row(tuple(value.values()))


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values, as many at a time as a statement may name."""
    for start in range(0, len(values), MANY):
        yield values[start : start + MANY]
