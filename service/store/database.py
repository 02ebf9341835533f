"""The engine: connections, transactions and what their failures mean. Knows no table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from threading import Lock

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.errors import StorageFull, Unavailable
from service.store.tables import Base

BUSY_SECONDS = 10
"""How long a writer waits for another one before the request is answered 503."""


class Database:
    """One database, SQLite or PostgreSQL, and its two kinds of transaction.

    A writing one takes SQLite's write lock at its start (BEGIN IMMEDIATE): it can wait for the lock, where a
    transaction that began by reading would fail.
    """

    def __init__(self, url: str, busy_seconds: float = BUSY_SECONDS) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("a SQLite database must be a file: jobs run in processes of their own")
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine = _engine(url, busy_seconds if self.is_sqlite else None)
        self._looking = Lock()
        self._look: PoolProxiedConnection | None = None
        self._writer = self.engine.execution_options(begin="IMMEDIATE")

    def create_tables(self) -> None:
        """Makes the tables that are missing."""
        with self.translated_errors():
            Base.metadata.create_all(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session whose statements all see the same state."""
        with self.translated_errors(), Session(self.engine) as session:
            if not self.is_sqlite:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that commits at the end, or rolls back where an exception passes through."""
        with self.translated_errors(), Session(self._writer) as session, session.begin():
            yield session

    def version(self) -> int | None:
        """A number that differs once another connection has committed; none where the database has no such number."""
        if not self.is_sqlite:
            return None
        with self._looking:
            if self._look is None:
                self._look = self.engine.raw_connection()
            cursor = self._look.cursor()
            cursor.execute("PRAGMA data_version")
            (version,) = cursor.fetchone() or (0,)
            return int(version)

    def close(self) -> None:
        """Closes every connection."""
        with self._looking:
            if self._look is not None:
                self._look.close()
                self._look = None
        self.engine.dispose()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turns the database's own errors into the service's, by name."""
        try:
            yield
        except PoolTimeout as error:
            raise Unavailable("all database connections are busy; try again") from error
        except OperationalError as error:
            raise _meaning(error) or error from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable("the connection to the database was lost; try again") from error
            raise


def _meaning(error: OperationalError) -> Exception | None:
    said = str(error.orig).lower()
    if "disk is full" in said or "disk full" in said or "no space left" in said:
        return StorageFull("the database's disk is full; nothing of this request was kept")
    if "locked" in said:
        return Unavailable("another process holds the database's write lock; try again")
    if "readonly" in said or "read-only" in said:
        return Unavailable("the database is read-only; nothing of this request was kept")
    if "unable to open" in said or "connect" in said or "terminat" in said:
        return Unavailable("the database cannot be reached; try again")
    return None


def _engine(url: str, busy_seconds: float | None) -> Engine:
    if busy_seconds is None:
        return create_engine(url, pool_size=20, max_overflow=40, pool_pre_ping=True)
    engine = create_engine(url, pool_size=20, max_overflow=60, connect_args={"timeout": busy_seconds})

    @event.listens_for(engine, "connect")
    def configure(connection: SQLiteConnection, _: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions of its own, and only some
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine
