"""What was acknowledged before a backup began is in it, and comes back with the same answers."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from models import Codec, Metric
from service.backup import back_up, restore_file, restore_rows
from service.catalog import Catalog
from service.errors import Conflict, SnapshotRefused
from service.files import locked
from service.jobs import Jobs
from service.keys import Keys
from service.notices import Notices
from service.rights import Scope
from service.store import schema
from service.store.database import Database
from service.store.tables import Base
from service.terms import OnceKey, Terms
from service.verification import verify
from tests.conftest import Server, clustered, start_server
from tests.postgres import Postgres
from tests.test_collection import catalog_of, item
from tests.test_several_servers import until
from tests.test_snapshot import answers, made

VECTORS = clustered(1_000, 8)


def command(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *map(str, words)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.fixture
def database(tmp_path: Path) -> Any:
    """With 3 items."""
    database = Database(f"sqlite:///{tmp_path / 'data' / 'codewell.db'}")
    schema.upgrade(database)
    with database.writing() as session:
        session.execute(
            text(
                "INSERT INTO collections (name, dimension, metric, codec, seq, item_count, created_at) "
                "VALUES ('ünï', 2, 'l2', '{}', 7, 3, 1)"
            )
        )
    yield database
    database.close()


def filled(url: str, codec: Codec) -> Database:
    """A database with something in every table that a user's data are in."""
    place = made(url, Path("unused"), codec)
    collection = place.catalog.open("c")
    collection.ingest(
        [item("3", VECTORS[900], tags=["ä", None]), item("new", VECTORS[901])], Terms(once=OnceKey("k", b"body"))
    )
    collection.delete(["5"])
    collection.give_queries(list(VECTORS[:3]), "vectors")
    place.catalog.point_alias("also", "c")
    place.catalog.delete(place.catalog.create("gone", dimension=2).name)
    place.catalog.create("empty", dimension=3)
    jobs = Jobs(place.database, Notices(place.database, wanted=True))
    jobs.submit("c", "train", {"seed": 1})
    jobs.cancel(jobs.submit_plan("c", {}).id)
    Keys(place.database).create("reader", Scope.READ, ["c"])
    return place.database


def content(database: Database) -> dict[str, list[str]]:
    """Every row of every table."""
    with database.reading() as session:
        tables = Base.metadata.sorted_tables
        return {
            table.name: sorted(repr(dict(row)) for row in session.execute(select(table)).mappings()) for table in tables
        }


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a backup is put back: a file that is not there, or an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'target' / 'codewell.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_database()


def put_back(backup: Path, target: str, scratch: Path) -> Database:
    if target.startswith("sqlite"):
        restore_file(backup, Path(target.removeprefix("sqlite:///")), scratch / "lock")
        return Database(target)
    database = Database(target)
    restore_rows(backup, database, scratch)
    return database


def test_every_row_comes_back_whichever_database_it_is(
    database_url: str, target: str, tmp_path: Path, tiny_codec: Codec
) -> None:
    source = filled(database_url, tiny_codec)
    there = content(source)
    assert {name for name, rows in there.items() if not rows} == {"pictures", "snapshots"}
    told = back_up(source, tmp_path / "backup")
    assert told["collections"] == {"c": {"items": 200, "seq": 203}, "empty": {"items": 0, "seq": 0}}
    restored = put_back(tmp_path / "backup", target, tmp_path / "scratch")
    assert content(restored) == there
    assert [path.name for path in (tmp_path / "scratch").iterdir() if path.name != "lock"] == []
    schema.checked(restored)

    catalogs = [Catalog(database, {}, Semaphore(), 1024, None) for database in (source, restored)]
    both = [catalog.open("also") for catalog in catalogs]
    assert answers(both[0].follower.view()) == answers(both[1].follower.view())
    for catalog in catalogs:  # and it can be gone on with
        assert catalog.create("next", dimension=2).id == 4
        assert catalog.open("c").ingest([item("7", VECTORS[902])]).seq == 204
    assert answers(both[0].follower.catch_up()) == answers(both[1].follower.catch_up())
    source.close()
    restored.close()


def test_what_was_acknowledged_before_is_in_it_and_what_comes_after_is_not(database_url: str, tmp_path: Path) -> None:
    database, catalog = catalog_of(database_url)
    collection = catalog.create("c", dimension=8, metric=Metric.L2)
    acknowledged, stop = list[int](), Event()

    def write() -> None:
        for n in range(len(VECTORS)):
            collection.ingest([item(str(n), VECTORS[n])])
            acknowledged.append(n)
            if stop.is_set():
                return

    writing = Thread(target=write)
    writing.start()
    until(lambda: len(acknowledged) >= 20)
    before = len(acknowledged)
    told = back_up(database, tmp_path / "backup")["collections"]["c"]
    until(lambda: len(acknowledged) > told["seq"] + 1)
    stop.set()
    writing.join()
    restored = put_back(tmp_path / "backup", f"sqlite:///{tmp_path / 'again.db'}", tmp_path)
    assert before <= told["seq"] == told["items"] < len(acknowledged)
    assert list(verify(restored)) == []
    with restored.reading() as session:
        ids = session.execute(text("SELECT item_id FROM items ORDER BY row_id")).scalars().all()
    assert ids == [str(n) for n in range(told["seq"])]
    restored.close()
    database.close()


def test_the_commands_beside_a_server(server: Server, tmp_path: Path) -> None:
    rows = [{"id": f"i{n}", "vector": VECTORS[n].tolist()} for n in range(50)]
    server.post("/ingest", {"collection": "backed-up", "items": rows})
    server.post("/ingest", {"collection": "words", "items": [{"id": "o", "text": "an otter in a river"}]})
    ran = command("snapshot", tmp_path / "backup", "--data-dir", server.data_dir)
    assert ran.returncode == 0, ran.stderr
    assert {"backed-up: 50 items, as of seq 50", "words: 1 items, as of seq 1"} < set(ran.stdout.splitlines())
    with pytest.raises(Conflict, match="is there; a backup is put back where there is no database"):
        restore_file(tmp_path / "backup", server.data_dir / "codewell.db", server.data_dir / "jobs" / "lock")
    again = command("restore", tmp_path / "backup", "--data-dir", tmp_path / "again")
    assert (again.returncode, again.stdout) == (0, ran.stdout), again.stderr
    assert [path.name for path in (tmp_path / "again").iterdir() if path.is_file()] == ["codewell.db"]
    restored = start_server(tmp_path / "again")
    try:
        for n in (0, 5, 49):
            body = {"collection": "backed-up", "vector": VECTORS[n].tolist(), "k": 3}
            hits = [[hit["id"] for hit in each.post("/search", body)["hits"]] for each in (server, restored)]
            assert hits[0] == hits[1]
            assert hits[0][0] == f"i{n}"
        found = restored.post("/search", {"collection": "words", "text": "river otter"})
        assert [hit["text"] for hit in found["hits"]] == ["an otter in a river"]
    finally:
        assert restored.stop() == 0


def test_what_is_not_the_backup_that_was_made_is_refused(database: Database, tmp_path: Path) -> None:
    backup, place = tmp_path / "backup", tmp_path / "new" / "codewell.db"
    told = back_up(database, backup)
    assert told["collections"] == {"ünï": {"items": 3, "seq": 7}}
    assert sorted(path.name for path in backup.iterdir()) == ["codewell.db", "manifest.json"]
    content = bytearray((backup / "codewell.db").read_bytes())
    content[len(content) // 2] ^= 1
    manifest = json.loads((backup / "manifest.json").read_text())

    def refused(reason: str, **files: bytes) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(backup, broken)
        for name, written in files.items():
            (broken / name.replace("_", ".")).write_bytes(written)
        with pytest.raises(SnapshotRefused, match=reason):
            restore_file(broken, place, tmp_path / "new" / "lock")
        assert [path.name for path in place.parent.iterdir() if path.name != "lock"] == []
        shutil.rmtree(broken)

    place.parent.mkdir()
    refused("codewell.db is not the file that was written", codewell_db=bytes(content))
    refused("codewell.db is not the file that was written", codewell_db=bytes(content[:-1]))
    refused("is of format 2; this program reads 1", manifest_json=json.dumps(manifest | {"format": 2}).encode())
    refused("manifest.json cannot be read", manifest_json=b"{")
    refused("manifest.json cannot be read", manifest_json=b'{"format": 1, "files": {}}')
    with pytest.raises(SnapshotRefused, match="is no backup"):
        restore_file(tmp_path, place, tmp_path / "new" / "lock")
    restore_file(backup, place, tmp_path / "new" / "lock")
    assert dump(place) == dump(backup / "codewell.db")


def test_one_of_a_newer_codewell_is_refused_and_one_of_an_older_is_not(database: Database, tmp_path: Path) -> None:
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    back_up(database, tmp_path / "newer")
    with pytest.raises(schema.SchemaTooNew, match="schema 9999"):
        restore_file(tmp_path / "newer", tmp_path / "a.db", tmp_path / "lock")
    assert list(tmp_path.glob("a.db*")) == []
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0006'"))
    back_up(database, tmp_path / "older")
    restore_file(tmp_path / "older", tmp_path / "a.db", tmp_path / "lock")
    assert (tmp_path / "a.db").is_file()


def test_a_damaged_database_makes_no_backup(database: Database, tmp_path: Path) -> None:
    with database.writing() as session:
        session.execute(text("CREATE INDEX of_it ON collections (metric)"))
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.scalar(text("SELECT rootpage FROM sqlite_master WHERE name = 'of_it'"))
    file = tmp_path / "data" / "codewell.db"
    content = bytearray(file.read_bytes())
    content[4_096 * page - 96 : 4_096 * page] = bytes(96)  # where the index has its entries
    file.write_bytes(content)
    damaged = Database(f"sqlite:///{file}")
    with pytest.raises(SnapshotRefused, match="the database is damaged"):
        back_up(damaged, tmp_path / "backup")
    damaged.close()
    assert not list(tmp_path.glob("backup*"))


def test_where_there_is_something_already_nothing_is_touched(
    database: Database, tmp_path: Path, postgres: Postgres
) -> None:
    with pytest.raises(Conflict, match="data is not empty; name a folder that is"):
        back_up(database, tmp_path / "data")
    back_up(database, tmp_path / "backup")
    url = postgres.new_database()
    there = Database(url)
    schema.upgrade(there)
    ran = command("restore", tmp_path / "backup", "--data-dir", tmp_path / "pg", CODEWELL_DATABASE_URL=url)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "Error: the database has tables of Codewell already; name an empty one\n"
    assert {name: rows for name, rows in content(there).items() if rows} == {}
    there.close()

    held = locked(tmp_path / "lock")
    assert held is not None
    with held, pytest.raises(Conflict, match="a server runs over"):  # even where somebody moved its database away
        restore_file(tmp_path / "backup", tmp_path / "a.db", tmp_path / "lock")
    assert list(tmp_path.glob("a.db*")) == []


def test_a_restore_into_postgresql_that_breaks_off_leaves_nothing(
    database: Database, tmp_path: Path, postgres: Postgres
) -> None:
    with database.writing() as session:
        session.execute(text("INSERT INTO aliases VALUES (:name, 1)"), {"name": "long" * 100})  # PostgreSQL counts
    back_up(database, tmp_path / "backup")
    there = Database(postgres.new_database())
    with pytest.raises(DBAPIError, match="too long"):
        restore_rows(tmp_path / "backup", there, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert schema.known(there) is None
    there.close()
