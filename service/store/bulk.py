"""Many values in few statements. Knows tables as such, and none by name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BigInteger, Connection, Select, Text, bindparam, cast, insert, inspect, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.store.tables import Base

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
Reads = Session | Connection
"""What statements that only read are run by; a session costs several times as much."""

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
    cursor: psycopg.Cursor[Any] = connection.connection.cursor()  # type: ignore[assignment]
    with cursor.copy(f"COPY {table.__tablename__} ({names}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
        copy.set_types(types)
        for value in values:
            copy.write_row(tuple(value.values()))


class _Listed(FunctionElement[str]):
    """The elements of a JSON list, a row each."""

    inherit_cache = True


@compiles(_Listed, "sqlite")
def _listed_by_sqlite(element: _Listed, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **named)})"


@compiles(_Listed, "postgresql")
def _listed_by_postgres(element: _Listed, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_array_elements_text(CAST({compiler.process(element.clauses, **named)} AS JSON))"


def given_rows() -> Select[tuple[int]]:
    """For `row_id.in_(...)`: the row ids of the parameter `rows`, a JSON list of any length. A statement with a
    parameter for each is made anew for every number of them.
    """
    listed = _Listed(bindparam("rows", type_=Text)).table_valued("value")
    return select(cast(listed.c.value, BigInteger))


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values, as many at a time as a statement may name."""
    for start in range(0, len(values), MANY):
        yield values[start : start + MANY]
