"""Statements that every request reads by, run by the driver itself. Knows no table.

SQLAlchemy's connection, with its transaction and its result, costs several times what SQLite takes for one of these.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Engine, PoolProxiedConnection, Select

Rows = Sequence[Sequence[Any]]
Statement = Select[*tuple[Any, ...]]
Reads = Sequence[tuple[int, Callable[[Any], Any]]]
"""What makes values of what the driver tells, by column, where that is something else."""


class Compiled(NamedTuple):
    """A statement as the driver takes it."""

    sql: str
    order: Sequence[str] | None
    """In which its parameters stand; none where they have names."""
    fixed: Mapping[str, Any]
    """Parameters that it brings itself."""


class Statements:
    """What is known of each statement for an engine, kept for good. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._dialect = engine.dialect
        self._compiled: dict[Statement, Compiled] = {}
        self._reads: dict[Statement, Reads] = {}

    def compiled(self, statement: Statement) -> Compiled:
        """What the driver is given."""
        found = self._compiled.get(statement)
        if found is None:
            made = statement.compile(dialect=self._dialect)
            found = self._compiled[statement] = Compiled(str(made), made.positiontup, made.params)
        return found

    def reads(self, statement: Statement, told: Sequence[Sequence[Any]]) -> Reads:
        """What its values are made by; `told` is the driver's description of its columns."""
        found = self._reads.get(statement)
        if found is None:
            types = [column.type.dialect_impl(self._dialect) for column in statement.selected_columns]
            made = [kind.result_processor(self._dialect, one[1]) for kind, one in zip(types, told, strict=True)]
            found = self._reads[statement] = [(place, read) for place, read in enumerate(made) if read is not None]
        return found


class Look:
    """Some statements over one connection, outside of a transaction: each sees the state of its own moment."""

    def __init__(self, connection: PoolProxiedConnection, statements: Statements) -> None:
        self._cursor = connection.cursor()
        self._statements = statements

    def execute(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        """All rows of one that is made once."""
        sql, order, fixed = self._statements.compiled(statement)
        given = {**fixed, **values}
        self._cursor.execute(sql, given if order is None else [given[name] for name in order])
        rows = self._cursor.fetchall()
        reads = self._statements.reads(statement, self._cursor.description or ())
        if not reads:
            return rows
        changed = [list(row) for row in rows]
        for row in changed:
            for place, read in reads:
                row[place] = read(row[place])
        return changed
