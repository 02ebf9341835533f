"""Transactions over a real SQLite file and a real PostgreSQL, and what their failures are called."""

import _sqlite3
import ctypes
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text

from service.errors import StorageFull, Unavailable
from service.store import schema, store
from service.store.database import Database
from service.store.tables import AliasRow, CollectionRow


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, busy_seconds=0.1)
    schema.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'sub' / 'codewell.db'}", busy_seconds=0.1)
    schema.upgrade(database)
    yield database
    database.close()


def collection(name: str = "c") -> CollectionRow:
    return CollectionRow(name=name, dimension=2, metric="l2", codec={}, created_at=0.0)


def names(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(CollectionRow.name)))


def test_what_was_written_is_there_and_what_failed_is_not(database: Database) -> None:
    with database.writing() as session:
        session.add(collection("kept"))

    def write_and_fail() -> None:
        with database.writing() as session:
            session.add(collection("lost"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert names(database) == ["kept"]


def test_the_file_is_set_up_to_lose_nothing(sqlite: Database) -> None:
    with sqlite.reading() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2  # FULL
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_a_reading_sees_one_state(database: Database) -> None:
    with database.reading() as reader:
        assert list(reader.scalars(select(CollectionRow.name))) == []
        with database.writing() as session:
            session.add(collection())
        assert list(reader.scalars(select(CollectionRow.name))) == []
    assert names(database) == ["c"]


def test_a_locked_file_is_unavailable(sqlite: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "sub" / "codewell.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="write lock"), sqlite.writing() as session:
        session.add(collection())
    other.execute("ROLLBACK")
    other.close()
    with sqlite.writing() as session:
        session.add(collection())
    assert names(sqlite) == ["c"]


def test_a_collection_locked_for_long_is_unavailable(database: Database) -> None:
    with database.writing() as session:
        session.add(collection())
    with database.writing() as holder:
        assert store.lock_collection(holder, 1) is not None
        with pytest.raises(Unavailable, match="write lock"), database.writing() as session:
            store.lock_collection(session, 1)
    with database.writing() as session:
        assert store.lock_collection(session, 1) is not None


def test_a_full_disk_is_named_and_nothing_is_kept(sqlite: Database) -> None:
    sqlite.close()

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 40")

    event.listen(sqlite.engine, "connect", limit)

    def write_much() -> None:
        with sqlite.writing() as session:
            session.add_all([collection("x" * 200 + str(number)) for number in range(2000)])

    with pytest.raises(StorageFull, match="nothing of this request was kept"):
        write_much()
    event.remove(sqlite.engine, "connect", limit)
    sqlite.close()
    assert names(sqlite) == []


def test_a_commit_is_signalled_at_once(database: Database) -> None:
    signal = database.signal()
    assert signal.wait(0.01)  # the first look always counts
    waited = []
    for commit in (False, True):
        if commit:
            with database.writing() as session:
                session.add(collection())
        began = time.monotonic()
        changed = signal.wait(0.05)
        waited.append(time.monotonic() - began)
        assert changed is (commit or not database.is_sqlite)
    assert waited[1] < 0.3  # a PostgreSQL without news is looked at after half a second
    signal.close()


def test_a_connection_cut_off_in_the_middle_of_a_look_is_dropped_in_silence(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    if database.is_sqlite:
        pytest.skip("a file cuts nobody off")
    statement = select(CollectionRow.id)

    def looked() -> None:
        with database.looking() as look:
            (backend,) = look.execute(select(func.pg_backend_pid()), {})[0]
            with database.writing() as other:
                other.execute(select(func.pg_terminate_backend(backend)))
            look.execute(statement, {})

    with pytest.raises(Unavailable):
        looked()
    assert not caplog.records
    with database.looking() as look:
        assert look.execute(statement, {}) == []


def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="mysql is neither"):
        Database("mysql://localhost/x")


@pytest.mark.parametrize("where", ["127.0.0.1:1", "no-such-host.invalid", "/nowhere"])
def test_a_server_that_is_not_there_is_unavailable(where: str) -> None:
    database = Database(f"postgresql://me:secret@{where}/x" if where[0] != "/" else f"postgresql:///x?host={where}")
    with pytest.raises(Unavailable, match="cannot be reached") as refused, database.reading():
        pass
    assert "secret" not in str(refused.value)


def test_deleting_a_collection_takes_its_aliases_along(database: Database) -> None:
    with database.writing() as session:
        session.add(collection())
        session.flush()
        session.add(AliasRow(name="other", collection_id=1))
    with database.writing() as session:
        session.delete(session.get_one(CollectionRow, 1))
    with database.reading() as session:
        assert list(session.scalars(select(AliasRow.name))) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be a file"):
        Database(url)


def test_a_log_that_readers_never_leave_is_emptied(sqlite: Database, tmp_path: Path) -> None:
    log = tmp_path / "sub" / "codewell.db-wal"

    def written(name: str) -> None:
        with sqlite.writing() as session:
            session.add(collection(name))

    readers = [sqlite.reading() for _ in range(30)]
    for number, reader in enumerate(readers):  # there is one at any time, and it has the newest change before it
        reader.__enter__().scalar(text("SELECT count(*) FROM collections"))
        if number:
            readers[number - 1].__exit__(None, None, None)
        written(f"c{number}")
        with sqlite.reading() as session:
            session.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))
    assert (longest := log.stat().st_size) > 30 * 4_096
    assert not sqlite.shorten_log(longest), "it is no longer than that"
    assert not sqlite.shorten_log(0), "a reader needs it"
    assert log.stat().st_size == longest
    written("while it is read")
    readers[-1].__exit__(None, None, None)
    assert sqlite.shorten_log(0)
    assert log.stat().st_size == 0
    assert not sqlite.shorten_log(0)
    written("after it was emptied")
    with sqlite3.connect(tmp_path / "sub" / "codewell.db") as other:
        there = {name for (name,) in other.execute("SELECT name FROM collections")}
    assert there == {*(f"c{number}" for number in range(30)), "while it is read", "after it was emptied"}


def test_connections_cache_little_of_what_they_read(sqlite: Database) -> None:
    try:
        used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
    except AttributeError:
        pytest.skip("this Python's SQLite does not show what memory it uses")
    used.restype = ctypes.c_int64
    with sqlite.writing() as session:
        session.execute(text("CREATE TABLE large (held BLOB)"))
        session.execute(
            text("INSERT INTO large SELECT randomblob(3000) FROM json_each(:rows)"), {"rows": f"[{'0,' * 999}0]"}
        )
    with ExitStack() as stack:
        sessions = [stack.enter_context(sqlite.reading()) for _ in range(8)]
        before = used()
        for session in sessions:
            assert session.scalar(text("SELECT sum(length(held)) FROM large")) == 3_000_000
        assert used() - before < 8 * 800_000  # each has read 4 MB
