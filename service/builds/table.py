"""A table of PostgreSQL, written once to local files that a build then reads as any other. The one file of builds that
knows SQL.

The files are Arrow's, each of about as many rows as a shard, in the order of the ids. A file begins where one began in
the build before: rows that come at the end leave the files before them as they were, and so their codes.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.builds.copies import Copy
from service.builds.reader import Columns
from service.errors import BuildError
from service.files import published

SCHEMES = ("postgresql", "postgres")
CONNECTING: dict[str, str | int] = {"connect_timeout": 10, "application_name": "codewell build"}
BATCH_ROWS = 1_000
"""Written together; they are all that is in RAM."""
HEADER = np.dtype(">i4")
NUMBERS = {"_float4": ">f4", "_float8": ">f8", "_int2": ">i2", "_int4": ">i4", "_int8": ">i8"}
"""Elements of arrays."""
VECTORS = {"vector": ">f4", "halfvec": ">f2"}
"""Elements of pgvector's types, by type."""
COLUMNS = (
    "SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
    "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
)
ABOUT = "SELECT to_regclass(%s) IS NOT NULL, greatest(reltuples, 0) FROM pg_class WHERE oid = to_regclass(%s)"


class Row(NamedTuple):
    """As PostgreSQL has it."""

    id: bytes | None
    """Its text in UTF-8."""
    vector: bytes | None
    """In PostgreSQL's binary form."""


@dataclass(frozen=True)
class Table:
    """`postgresql://USER@HOST/DATABASE?table=SCHEMA.NAME`."""

    conninfo: str = field(repr=False)
    names: tuple[str, ...]
    """Schema, where one is given, and name."""

    @classmethod
    def of(cls, url: str) -> "Table":
        """The table that the URL names.

        Raises:
            BuildError: it names none, or is no URL of a database.
        """
        place, _, query = url.partition("?")
        given = [word.partition("=") for word in query.split("&") if word]
        names = [unquote(value) for name, _, value in given if name == "table"]
        rest = "&".join(f"{name}={value}" for name, _, value in given if name != "table")
        try:
            conninfo = make_conninfo(f"{place}?{rest}" if rest else place)
        except psycopg.Error:
            raise BuildError("it is no URL of a PostgreSQL database", field="INPUT") from None  # its text has all of it
        if len(names) != 1 or not names[0]:
            raise BuildError("a URL of a database ends in ?table=NAME or ?table=SCHEMA.NAME, once", field="INPUT")
        return cls(conninfo, tuple(names[0].split(".", 1)))

    def __str__(self) -> str:
        """Without user and password: what messages, rejects and manifests have."""
        told = conninfo_to_dict(self.conninfo)
        host, port = str(told.get("host") or ""), told.get("port")
        place = quote(host, safe=":,[]") + (f":{port}" if port else "")
        return f"postgresql://{place}/{quote(str(told.get('dbname') or ''))}?table={quote('.'.join(self.names))}"

    def copies(
        self,
        columns: Columns,
        folder: Path,
        part_rows: int,
        known: Sequence[str],
        report: Callable[[str, float, float], None],
    ) -> list[Copy]:
        """The table as it is in one moment, in files of about `part_rows` rows; `known` are the names that the copies
        of the build before had.

        Raises:
            BuildError: the database, the table, a column or the right to read them is not there; pyarrow is missing.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise BuildError(f"{self} needs pyarrow: pip install 'codewell[build]'", field="INPUT") from None
        marks = {one.rpartition("..")[2] for one in known if one.startswith(f"{self}#")}
        shutil.rmtree(folder, ignore_errors=True)
        with self._connected() as connection:
            kind, total = self._checked(connection, columns)
            rows = self._rows(connection, columns)
            return list(self._written(rows, kind, columns, folder, part_rows, marks, total, report))

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        """One transaction, that sees one moment and changes nothing."""
        try:
            options = {"client_encoding": "utf8", **CONNECTING}
            with psycopg.connect(make_conninfo(self.conninfo, **options)) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                yield connection
        except psycopg.Error as error:
            said = str(error.diag.message_primary or error).strip()
            password = conninfo_to_dict(self.conninfo).get("password")
            said = said.replace(str(password), "…") if password else said
            raise BuildError(f"{self} cannot be read: {' '.join(said.split())}", field="INPUT") from None

    def _checked(self, connection: psycopg.Connection, columns: Columns) -> tuple[str, float]:
        """The vector column's type, and how many rows the statistics know of."""
        name = sql.Identifier(*self.names).as_string(connection)
        about = connection.execute(ABOUT, (name, name)).fetchone()
        if about is None:
            raise BuildError(f"{self}: there is no table {'.'.join(self.names)!r}", field="INPUT")
        types: dict[str, str] = dict(connection.execute(COLUMNS, (name,)).fetchall())
        for column in (columns.id, columns.vector):
            if column not in types:
                raise BuildError(f"{self} has no column {column!r}; it has {', '.join(types)}", field="INPUT")
        kind = types[columns.vector]
        if kind not in NUMBERS | VECTORS:
            raise BuildError(
                f"{self}: column {columns.vector!r} holds {kind}; wanted are real[], double precision[], arrays of "
                "integers, vector or halfvec",
                field="INPUT",
            )
        return kind, float(about[1])

    def _rows(self, connection: psycopg.Connection, columns: Columns) -> Iterator[Row]:
        """In the order of the ids, rows without one at the end."""
        query = sql.SQL(
            "COPY (SELECT {id}::text, {vector} FROM {table} ORDER BY {id}) TO STDOUT (FORMAT binary)"
        ).format(
            id=sql.Identifier(columns.id), vector=sql.Identifier(columns.vector), table=sql.Identifier(*self.names)
        )
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types(["bytea", "bytea"])  # their bytes as they are
            for one, vector in copy.rows():
                yield Row(one, vector)

    def _written(
        self,
        rows: Iterator[Row],
        kind: str,
        columns: Columns,
        folder: Path,
        part_rows: int,
        marks: set[str],
        total: float,
        report: Callable[[str, float, float], None],
    ) -> Iterator[Copy]:
        done, row = 0, next(rows, None)
        number = 0
        while number == 0 or row is not None:
            path, digest, size = folder / f"{number}.arrow", hashlib.sha256(kind.encode()), 0
            first = last = None if row is None else row.id
            with published(path) as draft, _Writer(draft, columns, kind) as writer:
                while row is not None:
                    for field_bytes in row:
                        digest.update(b"-" if field_bytes is None else b"%d:%b" % (len(field_bytes), field_bytes))
                        size += len(field_bytes or b"")
                    writer.add(row)
                    last, row = row.id, next(rows, None)
                    if writer.rows % BATCH_ROWS == 0:
                        report("copying", done + writer.rows, max(total, done + writer.rows))
                    if (row is None or row.id != last) and (writer.rows >= part_rows or _mark(last) in marks):
                        break
                done += writer.rows
            number += 1
            yield Copy(f"{self}#{_mark(first)}..{_mark(last)}", path, size, digest.hexdigest())


class _Writer:
    """Rows on their way to being a file."""

    def __init__(self, path: Path, columns: Columns, kind: str) -> None:
        import pyarrow as pa

        self.rows = 0
        self._kind = kind
        self._ids: list[str | None] = []
        self._vectors: list[NDArray[np.float32] | None] = []
        self._schema = pa.schema([(columns.id, pa.string()), (columns.vector, pa.list_(pa.float32()))])
        self._open = ExitStack()
        self._file: Any = self._open.enter_context(pa.OSFile(str(path), "wb"))
        self._to: Any = self._open.enter_context(pa.ipc.new_file(self._file, self._schema))

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        self._open.close()

    def add(self, row: Row) -> None:
        """Keeps it until there are enough."""
        self._ids.append(None if row.id is None else row.id.decode(errors="replace"))
        self._vectors.append(None if row.vector is None else numbers(row.vector, self._kind))
        self.rows += 1
        if len(self._ids) == BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._ids:
            return
        ends = np.cumsum([0, *(0 if one is None else len(one) for one in self._vectors)])
        begins = [None if one is None else int(end) for one, end in zip(self._vectors, ends, strict=False)]
        values = np.concatenate([np.empty(0, np.float32), *(one for one in self._vectors if one is not None)])
        lists = pa.ListArray.from_arrays(pa.array([*begins, int(ends[-1])], pa.int32()), pa.array(values))
        self._to.write_batch(pa.record_batch([pa.array(self._ids, pa.string()), lists], schema=self._schema))
        self._ids, self._vectors = [], []


def numbers(content: bytes, kind: str) -> NDArray[np.float32]:
    """(n,) of a vector or an array in PostgreSQL's binary form; where an array has no number, NaN.

    vector, halfvec: n and 0 of 2 bytes, n numbers. Arrays: dimensions, whether there are NULLs, type; a length and a
    first index for each dimension; each number with its length before it, -1 for NULL. All big-endian.
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        if kind in VECTORS:
            return np.frombuffer(content, VECTORS[kind], offset=4).astype(np.float32)
        dimensions, nulls, _ = np.frombuffer(content, HEADER, 3).tolist()
        begin, number = 12 + 8 * dimensions, np.dtype(NUMBERS[kind])
        if not nulls:
            pairs = np.frombuffer(content, np.dtype([("length", ">i4"), ("number", number)]), offset=begin)
            return pairs["number"].astype(np.float32)
        found = list[float]()
        while begin < len(content):
            length = int(np.frombuffer(content, HEADER, 1, begin)[0])
            begin += 4
            found.append(np.nan if length < 0 else float(np.frombuffer(content, number, 1, begin)[0]))
            begin += max(0, length)
        return np.array(found, np.float32)


def _mark(one: bytes | None) -> str:
    """An id as it stands in a copy's name."""
    return "" if one is None else quote(one, safe="").replace(".", "%2E")
