"""Many values in few statements. Knows tables as such, and none by name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Text, bindparam, insert, inspect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.store.looking import Look
from service.store.tables import Base

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
Reads = Session | Look
"""What statements that only read are run by; a session costs many times as much."""

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


class IsGiven(FunctionElement[bool]):
    """Whether a column of row ids is in the parameter `rows`, a JSON list of any length: a statement with a parameter
    for each is made anew for every number of them.

    Its type is not said, for SQLite would be asked whether it is 1, and that without an index.
    """

    inherit_cache = True

    def __init__(self, column: InstrumentedAttribute[int]) -> None:
        super().__init__(column, bindparam("rows", type_=Text))


@compiles(IsGiven, "sqlite")
def _given_to_sqlite(element: IsGiven, compiler: SQLCompiler, **named: Any) -> str:
    column, rows = (compiler.process(part, **named) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({rows}))"  # noqa: S608


@compiles(IsGiven, "postgresql")
def _given_to_postgres(element: IsGiven, compiler: SQLCompiler, **named: Any) -> str:
    column, rows = (compiler.process(part, **named) for part in element.clauses)
    listed = f"SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST({rows} AS JSON)) AS value"  # noqa: S608
    return f"{column} = ANY (ARRAY({listed}))"  # by the index; a join could read the whole collection


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values, as many at a time as a statement may name."""
    for start in range(0, len(values), MANY):
        yield values[start : start + MANY]
