"""The engine: connections, transactions and what their failures mean. Knows no table."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import SQLITE_BUSY, SQLITE_IOERR_WRITE, OperationalError
from sqlite3 import Connection as SQLiteConnection

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.errors import StorageFull, Unavailable
from service.store.looking import Look, Statements
from service.store.signal import PollingSignal, PostgresSignal, Signal

BUSY_SECONDS = 10
"""How long a writer waits for another one before the request is answered 503."""
RECLAIMED_PAGES = 2_000
"""Pages of 4 KB moved and cut off in one transaction, during which nobody else writes."""
CACHED_KB = 512
"""Of pages, in each of SQLite's connections. A change by another empties it, and the system has the file in memory: it
spares a statement little, and with SQLite's own 2 MB the connections of a busy process come to hold 50 MB and more."""
LONGEST_LOG = 32 * 1024 * 1024
"""Bytes of SQLite's write-ahead log that are left as they are."""
TRUNCATING_SECONDS = 0.5
"""How long writers wait, at most, for the last reader of a log that is to be emptied."""
POSTGRES_OPTIONS = "-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout=120s"
"""A machine that vanishes in the middle of a transaction must not hold a collection's lock for ever."""
KEEPALIVES = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds; keepalives are not sent while an answer is waited for
}
"""Seconds until a connection to a vanished PostgreSQL is given up."""


class Database:
    """One database, SQLite or PostgreSQL, and its two kinds of transaction.

    A writing one takes SQLite's write lock at its start (BEGIN IMMEDIATE): it can wait for the lock, where a
    transaction that began by reading would fail.

    Raises:
        ValueError: the URL is of no database that can be used.
    """

    def __init__(self, url: str, busy_seconds: float = BUSY_SECONDS) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._log = Path(f"{parsed.database}-wal")
        self._busy_seconds = busy_seconds
        if self.is_sqlite:
            self.engine = _sqlite(parsed, busy_seconds)
        elif parsed.get_backend_name() in ("postgresql", "postgres"):  # the latter is what some hosts hand out
            self.engine = _postgres(parsed, busy_seconds)
        else:
            raise ValueError(f"{parsed.get_backend_name()} is neither sqlite:///FILE nor postgresql://USER@HOST/NAME")
        self._statements = Statements(self.engine)
        self._writer = self.engine.execution_options(begin="IMMEDIATE")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session whose statements all see the same state."""
        with self.translated_errors(), Session(self.engine) as session:
            if not self.is_sqlite:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def looking(self) -> Iterator[Look]:
        """For what every request reads, by statements that are made once; each sees the state of its own moment."""
        with self.translated_errors(), closing(self.engine.raw_connection()) as connection:
            try:
                yield Look(connection, self._statements)
            except Exception as error:
                if getattr(connection.dbapi_connection, "closed", False):
                    connection.invalidate(error)  # the server is gone: the pool would log that it cannot reset it
                raise

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that commits at the end, or rolls back where an exception passes through."""
        with self.translated_errors(), Session(self._writer) as session, session.begin():
            yield session
            if not self.is_sqlite:
                session.connection().exec_driver_sql("NOTIFY codewell")

    @contextmanager
    def naming(self) -> Iterator[Session]:
        """A writing session for what collections and aliases are called: one at a time over all processes."""
        with self.writing() as session:
            if not self.is_sqlite:
                session.connection().exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('codewell names'))")
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction that one process at a time is in; the others wait for as long as it takes."""
        with self.translated_errors(), self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('codewell'))")
            yield connection

    def signal(self) -> Signal:
        """What tells that another process may have committed."""
        return PollingSignal(self.engine) if self.is_sqlite else PostgresSignal(self.engine)

    def free_share(self) -> float:
        """The share of SQLite's file that deletions freed; 0 for PostgreSQL, which uses freed space again by itself."""
        if not self.is_sqlite:
            return 0.0
        with self.reading() as session:
            connection = session.connection()
            free, pages = (
                int(connection.exec_driver_sql(f"PRAGMA {what}").scalar_one())
                for what in ("freelist_count", "page_count")
            )
        return free / max(1, pages)

    def reclaim(self) -> None:
        """Gives the pages that deletions freed back to the disk, a few at a time; PostgreSQL does so by itself."""
        while self.is_sqlite:
            with self.writing() as session:
                connection = session.connection()
                before = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
                cursor = connection.connection.cursor()  # each page is a row without columns, which has to be fetched
                cursor.execute(f"PRAGMA incremental_vacuum({RECLAIMED_PAGES})")
                cursor.fetchall()
                after = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
            if after in (0, before):  # 0, or a file from before there was this
                return

    def shorten_log(self, longest: int = LONGEST_LOG) -> bool:
        """Empties SQLite's log where it is longer; false where a reader needs it still, or it need not be.

        SQLite begins it anew by itself once nobody reads it; searches that overlap without end never let it.
        """
        if not self.is_sqlite or not self._log.exists() or self._log.stat().st_size <= longest:
            return False
        with self.translated_errors(), closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")  # most of it is moved while others write
            cursor.execute(f"PRAGMA busy_timeout = {round(1000 * TRUNCATING_SECONDS)}")
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                (busy, *_) = cursor.fetchone() or (1,)
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {round(1000 * self._busy_seconds)}")
            return not busy

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turns the database's own errors into the service's, by name."""
        try:
            yield
        except PoolTimeout as error:
            raise Unavailable("all database connections are busy; try again") from error
        except DBAPIError as error:
            raise _meaning(error.orig, error.connection_invalidated) or error from error
        except self.engine.dialect.loaded_dbapi.Error as error:  # COPY is the driver's own
            raise _meaning(error, False) or error from error


def _meaning(error: BaseException | None, lost: bool) -> Exception | None:
    """None where the fault is ours. PostgreSQL says what it means by a code, SQLite and lost connections in words."""
    code = getattr(error, "sqlstate", None) or ""
    said = "" if code else str(error).lower()  # where there is a code, words may be a user's: a name that was repeated
    if code == "53100" or "disk is full" in said or "no space left" in said:
        return StorageFull("the database's disk is full; nothing of this request was kept")
    if getattr(error, "sqlite_errorcode", None) == SQLITE_IOERR_WRITE:
        return StorageFull(
            "the database's file could not be written: a quota or a limit on the size of files was reached, or its "
            "disk has failed; nothing of this request was kept"
        )
    if code in ("55P03", "40001", "40P01") or "locked" in said:
        return Unavailable("another process holds the database's write lock; try again")
    if code == "25006" or "readonly" in said or "read-only" in said:
        return Unavailable("the database is read-only; nothing of this request was kept")
    if code == "57014":
        return Unavailable("the database ended a statement that took too long; try again")
    if lost or code.startswith(("08", "57P")) or code == "53300":
        return Unavailable("the connection to the database was lost; try again")
    import psycopg  # which a database of SQLite starts without

    # PostgreSQL's client gives no code where it did not come to the server, whose name may not even resolve.
    unreached = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    if unreached or "unable to open" in said:
        return Unavailable("the database cannot be reached; try again")
    return None


def _postgres(url: URL, busy_seconds: float) -> Engine:
    options = POSTGRES_OPTIONS.format(milliseconds=round(1000 * busy_seconds))
    if given := url.query.get("options"):
        options = f"{given} {options}"
    return create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        pool_size=10,
        max_overflow=10,
        pool_timeout=10,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"options": options, "connect_timeout": 5, **KEEPALIVES},
    )


def _sqlite(url: URL, busy_seconds: float) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ValueError("a SQLite database must be a file: jobs run in processes of their own")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        pool_size=20,
        max_overflow=60,
        pool_use_lifo=True,  # each connection caches pages: where few are in use, the same few
        hide_parameters=True,  # what a statement was given may be a user's text, and its errors are logged
        connect_args={"timeout": busy_seconds},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: SQLiteConnection, _: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions of its own, and only some
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts for a file that is new, and comes first for it
        _write_ahead(connection, busy_seconds)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHED_KB}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _write_ahead(connection: SQLiteConnection, busy_seconds: float) -> None:
    """Sets WAL. Of processes that open a new file at the same moment SQLite refuses all but one without waiting."""
    end = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except OperationalError as error:
            if error.sqlite_errorcode & 0xFF != SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)
