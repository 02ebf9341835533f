"""A copy of codes as a table of PostgreSQL with pgvector. Knows no Codewell database and no codec."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.types.numeric import Int8

from service.engines.column import Column, Distance, Form, Pairs, Type, Values
from service.engines.engine import STATES, State
from service.engines.source import Batch, Row
from service.errors import EngineAway, EngineRefused, InvalidInput
from service.store.database import KEEPALIVES

CONNECTING: dict[str, str | int] = {"connect_timeout": 10, "application_name": "codewell", **KEEPALIVES}
LONGEST_NAME = 46
"""Bytes of a table's name: PostgreSQL takes 63, and what is being made has the codec's fingerprint too."""
MOST_DENSE = 16_000
"""Numbers of a halfvec."""
MARK = "Made by codewell export"
"""How the comment on every table begins that Codewell may replace."""
NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""In JSON; jsonb does not take it."""
STATE_TABLE = sql.SQL(
    "CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, collection text NOT NULL, fingerprint text NOT NULL, "
    "form text NOT NULL, seq bigint NOT NULL, written_at timestamptz NOT NULL DEFAULT now())"
)
STATE = sql.SQL("SELECT collection, fingerprint, form, seq FROM {} WHERE name = %s")
KEEP_STATE = sql.SQL(
    "INSERT INTO {} (name, collection, fingerprint, form, seq) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (name) DO UPDATE SET (collection, fingerprint, form, seq, written_at) = "
    "(excluded.collection, excluded.fingerprint, excluded.form, excluded.seq, now())"
)
HAS_HNSW = (
    "SELECT EXISTS (SELECT FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam "
    "WHERE indrelid = to_regclass(%s) AND amname = 'hnsw')"
)


class Kind(NamedTuple):
    """What pgvector calls a column, by type."""

    type: LiteralString
    classes: dict[Distance, LiteralString]
    """Of operators, for an index."""


KINDS = {
    Type.DENSE: Kind("halfvec", {Distance.L2: "halfvec_l2_ops", Distance.IP: "halfvec_ip_ops"}),
    Type.BITS: Kind("bit", {Distance.HAMMING: "bit_hamming_ops"}),
    Type.SPARSE: Kind("sparsevec", {Distance.IP: "sparsevec_ip_ops"}),
}


class PgVector:
    """One table, and its line in the table `codewell_exports` beside it. Every turn is one transaction."""

    def __init__(self, url: str, table: str, *, index: bool = False) -> None:
        """`table` is `NAME` or `SCHEMA.NAME`; with `index`, it has an HNSW index.

        Raises:
            InvalidInput: the URL or the name is none.
        """
        self._url = checked_url(url)
        *schema, self._name = table.split(".", 1)
        if not 0 < len(self._name.encode()) <= LONGEST_NAME or "\0" in table:
            raise InvalidInput(f"the name {self._name!r} is not 1 to {LONGEST_NAME} bytes; --table gives another")
        self._schema = schema
        self._index = index
        self._connection: psycopg.Connection | None = None

    @contextmanager
    def turn(self) -> Iterator[State | None]:
        """A transaction under the table's lock; nothing of it stays where an exception passes through."""
        with self._told():
            connection = self._connected()
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"codewell {self._quoted()}"])
                yield self._state(connection)

    def replace(self, column: Column, state: State, batches: Iterable[Batch]) -> None:
        """Into a new table, which then takes the old one's name: until the commit readers have the old one.

        Raises:
            InvalidInput: there are more numbers than PostgreSQL's type takes.
        """
        connection, draft = self._connected(), self._identifier(f"{self._name}_{state.fingerprint}")
        if column.type is Type.DENSE and column.width > MOST_DENSE:
            raise InvalidInput(f"a halfvec has {MOST_DENSE:,} numbers at most, and these have {column.width:,}")
        kind = KINDS[column.type]
        code = sql.SQL("{}({})").format(sql.SQL(kind.type), sql.Literal(column.width))
        fields = sql.SQL("row_id bigint NOT NULL, id text NOT NULL, metadata jsonb NOT NULL, code {} NOT NULL")
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(draft, fields.format(code)))
        comment = f"{MARK} of the collection {state.collection}: {column.distance} distance"
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(draft, sql.Literal(comment)))
        for batch in batches:
            self._copy(connection, draft, column, batch.rows)
        connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (row_id)").format(draft))
        connection.execute(sql.SQL("CREATE INDEX ON {} (id)").format(draft))
        if self._index:
            self._make_index(connection, draft, column)
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._identifier(self._name)))
        connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(draft, sql.Identifier(self._name)))
        self._keep(connection, state)

    def update(self, column: Column, state: State, batches: Iterable[Batch]) -> None:
        """In the table; readers see all of it or nothing."""
        connection, table = self._connected(), self._identifier(self._name)
        delete = sql.SQL("DELETE FROM {} WHERE row_id = ANY(%s)").format(table)
        for batch in batches:
            connection.execute(delete, [batch.gone + [row.row_id for row in batch.rows]])
            self._copy(connection, table, column, batch.rows)
        if self._index:
            found = connection.execute(HAS_HNSW, [self._quoted()]).fetchone()
            if found == (False,):
                self._make_index(connection, table, column)
        self._keep(connection, state)

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True)
        return self._connection

    def _state(self, connection: psycopg.Connection) -> State | None:
        """What the table holds; none where there is none.

        Raises:
            EngineRefused: pgvector is not there; InvalidInput: Codewell did not make the table.
        """
        if connection.execute("SELECT to_regtype('halfvec')").fetchone() == (None,):
            raise EngineRefused(
                "that database has no type halfvec: CREATE EXTENSION vector makes it, of pgvector 0.7.0 or later; an "
                "older one is raised by ALTER EXTENSION vector UPDATE"
            )
        table = "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')"
        there, comment = connection.execute(table, [self._quoted()] * 2).fetchone() or (False, None)
        if not there:
            return None
        if not str(comment).startswith(MARK):
            raise InvalidInput(
                f"there is {self._quoted()} already, and Codewell did not make it: name another by --table",
                field="table",
            )
        states = self._identifier(STATES)
        known = connection.execute("SELECT to_regclass(%s)", [states.as_string(connection)]).fetchone()
        if known == (None,):
            return None
        row = connection.execute(STATE.format(states), [self._name]).fetchone()
        return None if row is None else State(row[0], row[1], Form(row[2]), row[3])

    def _keep(self, connection: psycopg.Connection, state: State) -> None:
        states = self._identifier(STATES)
        if connection.execute("SELECT to_regclass(%s)", [states.as_string(connection)]).fetchone() == (None,):
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('codewell exports'))")
            connection.execute(STATE_TABLE.format(states))
        connection.execute(KEEP_STATE.format(states), [self._name, *state])

    def _make_index(self, connection: psycopg.Connection, table: sql.Identifier, column: Column) -> None:
        operators = sql.SQL(KINDS[column.type].classes[column.distance])
        connection.execute(sql.SQL("CREATE INDEX ON {} USING hnsw (code {})").format(table, operators))

    def _copy(self, connection: psycopg.Connection, table: sql.Identifier, column: Column, rows: Sequence[Row]) -> None:
        if not rows:
            return
        codes = np.frombuffer(bytearray().join(row.code for row in rows), np.uint8).reshape(len(rows), -1)
        statement = sql.SQL("COPY {} (row_id, id, metadata, code) FROM STDIN (FORMAT BINARY)").format(table)
        with connection.cursor().copy(statement) as copy:
            for row, code in zip(rows, binary(column, column.values(codes)), strict=True):
                copy.write_row((Int8(row.row_id), row.item_id, _jsonb(row.metadata), code))

    def _identifier(self, name: str) -> sql.Identifier:
        return sql.Identifier(*self._schema, name)

    def _quoted(self) -> str:
        return self._identifier(self._name).as_string()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Says what PostgreSQL says, without what a connection was asked for: that has a password in it."""
        try:
            yield
        except psycopg.Error as error:
            said = (str(error) or repr(error)).splitlines()[0]
            if self._connection is None or self._connection.closed:
                self.close()
                raise EngineAway(f"PostgreSQL cannot be reached, or was lost: {said}", field="target") from None
            raise EngineRefused(f"PostgreSQL says: {said}") from error


def checked_url(url: str) -> str:
    """The URL as libpq takes it, with how long it may be silent.

    Raises:
        InvalidInput, which does not repeat it.
    """
    plain = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql://", url)
    authority, _, path = plain.removeprefix("postgresql://").partition("/")
    # libpq would take what follows on such a sign in a password for a host, and name it in its errors.
    unquoted = authority.count("@") > 1 or "@" in path.partition("?")[0]
    try:
        if plain.startswith("postgresql://") and not unquoted:
            return make_conninfo(plain, **CONNECTING)
    except psycopg.Error:
        pass
    raise InvalidInput("that is no postgresql://USER@HOST/NAME; in a password, @ is %40 and / is %2F", field="target")


def binary(column: Column, values: Values) -> list[bytes]:
    """Each of (n, …) values as pgvector's type reads it in a binary COPY."""
    if isinstance(values, Pairs):
        return [_sparsevec(column.width, *pair) for pair in zip(*values, strict=True)]
    if column.type is Type.BITS:
        bits = np.packbits(np.unpackbits(values.astype(np.uint8), axis=1, bitorder="little"), axis=1)
        return [row.tobytes() for row in _headed(np.array([column.width], ">i4"), bits)]
    halves = np.ascontiguousarray(values, ">f2").view(np.uint8)
    return [row.tobytes() for row in _headed(np.array([column.width, 0], ">i2"), halves)]


def _headed(head: NDArray[np.signedinteger], rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.hstack((np.tile(head.view(np.uint8), (len(rows), 1)), rows))


def _sparsevec(width: int, indices: NDArray[np.int64], values: NDArray[np.float32]) -> bytes:
    there = values != 0
    parts = np.array([width, np.count_nonzero(there), 0], ">i4"), indices[there].astype(">i4")
    return b"".join(part.tobytes() for part in (*parts, values[there].astype(">f4")))


def _jsonb(metadata: str) -> bytes:
    """As a binary COPY has it, after the format's version; a NUL, which jsonb has not, becomes U+FFFD."""
    return b"\x01" + NUL.sub(r"\1\\ufffd", metadata).encode()
