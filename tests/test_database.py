"""Transactions over a real SQLite file, and what its failures are called."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, select, text

from service.errors import StorageFull, Unavailable
from service.store.database import Database
from service.store.tables import AliasRow, CollectionRow


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'sub' / 'codewell.db'}", busy_seconds=0.1)
    database.create_tables()
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


def test_the_file_is_set_up_to_lose_nothing(database: Database) -> None:
    with database.reading() as session:
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


def test_a_locked_database_is_unavailable(database: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "sub" / "codewell.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="write lock"), database.writing() as session:
        session.add(collection())
    other.execute("ROLLBACK")
    other.close()
    with database.writing() as session:
        session.add(collection())
    assert names(database) == ["c"]


def test_a_full_disk_is_named_and_nothing_is_kept(database: Database) -> None:
    database.close()

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 40")

    event.listen(database.engine, "connect", limit)

    def write_much() -> None:
        with database.writing() as session:
            session.add_all([collection("x" * 200 + str(number)) for number in range(2000)])

    with pytest.raises(StorageFull, match="nothing of this request was kept"):
        write_much()
    event.remove(database.engine, "connect", limit)
    database.close()
    assert names(database) == []


def test_the_version_moves_when_another_connection_commits(database: Database) -> None:
    before = database.version()
    assert database.version() == before
    with database.writing() as session:
        session.add(collection())
    assert database.version() != before


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
