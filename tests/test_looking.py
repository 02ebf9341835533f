"""Statements run by the driver itself, over a real SQLite file and a real PostgreSQL: values, state, failures."""

from collections.abc import Iterator

import pytest
from sqlalchemy import bindparam, func, select, text

from service.errors import Unavailable
from service.store import schema
from service.store.database import Database
from service.store.tables import KeyRow
from tests.postgres import Postgres

SOME = select(KeyRow.id, KeyRow.digest, KeyRow.collections, KeyRow.rate, KeyRow.max_items).where(
    KeyRow.scope == bindparam("scope"), KeyRow.name != "left out"
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, busy_seconds=0.1)
    schema.upgrade(database)
    yield database
    database.close()


def keep(database: Database, key: str, name: str = "kept", collections: list[str] | None = None) -> None:
    digest = bytes(range(32))
    with database.writing() as session:
        session.add(
            KeyRow(
                id=key, name=name, digest=digest, scope="read", collections=collections, rate=0.5, created_at=1.0,
                max_items=2**40,
            )
        )  # fmt: skip


def test_values_are_those_that_a_session_reads(database: Database) -> None:
    keep(database, "a", collections=["é", "b"])
    keep(database, "b")
    keep(database, "c", name="left out")
    for _ in range(2):  # the second time all that is known of the statement is kept
        with database.looking() as look:
            found = [list(row) for row in look.execute(SOME.order_by(KeyRow.id), {"scope": "read"})]
            assert look.execute(SOME, {"scope": "admin"}) == []
        assert found == [
            ["a", bytes(range(32)), ["é", "b"], 0.5, 2**40],
            ["b", bytes(range(32)), None, 0.5, 2**40],
        ]
        with database.reading() as session:
            assert [list(row) for row in session.execute(SOME.order_by(KeyRow.id), {"scope": "read"})] == found


def test_each_statement_sees_what_is_committed_by_then(database: Database) -> None:
    with database.looking() as look:
        assert look.execute(SOME, {"scope": "read"}) == []
        keep(database, "a")
        assert [row[0] for row in look.execute(SOME, {"scope": "read"})] == ["a"]


def test_a_connection_that_is_lost_is_unavailable_once(postgres: Postgres) -> None:
    database = Database(postgres.new_database())
    schema.upgrade(database)
    keep(database, "a")

    def cut_off() -> None:
        with database.looking() as look:
            ((ours,),) = look.execute(select(func.pg_backend_pid()), {})
            with database.writing() as session:
                session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": ours})
            look.execute(SOME, {"scope": "read"})

    with pytest.raises(Unavailable, match="lost"):
        cut_off()
    with database.looking() as look:
        assert [row[0] for row in look.execute(SOME, {"scope": "read"})] == ["a"]
    database.close()
