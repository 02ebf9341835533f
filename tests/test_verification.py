"""Whatever is missing, left over or changed in a database is named; what is whole is called whole."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from models import Metric
from service.collection import Collection
from service.errors import CollectionNotFound
from service.generation import Build
from service.originals import Originals
from service.store.database import Database
from service.verification import verify
from tests.conftest import Server
from tests.test_collection import VECTORS, catalog_of, item
from tests.test_originals import TINY, ignore

DAMAGES = {
    "DELETE FROM rows WHERE row_id = 7": "1 items have no vector",
    "DELETE FROM codes WHERE row_id IN (7, 8)": "2 items have no code in generation 1",
    "DELETE FROM items WHERE item_id = '9'": "it counts 198 items and holds 197",
    "DELETE FROM items WHERE item_id IN ('9')": "1 codes of generation 1 belong to no item",
    "DELETE FROM items WHERE item_id = '10'": "1 vectors belong to no item",
    "DELETE FROM changes WHERE seq = 20": "its log has 202 entries between seq 0 and 203",
    "UPDATE codes SET code = (SELECT code FROM codes WHERE row_id = 30) WHERE row_id = 31": (
        "1 of 1000 codes looked at are not those of their vectors"
    ),
    "UPDATE generations SET codec = (SELECT vector FROM rows WHERE row_id = 30)": "cannot be read",
    "UPDATE generations SET fingerprint = 'another'": "published was another",
}


@pytest.fixture
def whole(database_url: str, tmp_path: Path) -> Iterator[tuple[Database, Collection]]:
    database, catalog = catalog_of(database_url)
    catalog.create("empty", dimension=2)
    collection = catalog.create("c", dimension=8, metric=Metric.L2, originals=Originals.FLOAT16)
    collection.ingest([item(str(v), VECTORS[v]) for v in range(180)])
    Build(database, collection.id, {**TINY, "codec": {"bytes": 8}}, tmp_path / "scratch", ignore).run(10_000)
    collection.follower.catch_up()
    collection.ingest([item(str(v), VECTORS[v]) for v in range(180, 200)])
    collection.ingest([item("3", VECTORS[300])])
    collection.delete(["4", "5"])
    yield database, collection
    database.close()


def test_what_is_whole_is_called_whole(whole: tuple[Database, Collection]) -> None:
    assert list(verify(whole[0])) == []
    with pytest.raises(CollectionNotFound):
        list(verify(whole[0], "none"))


@pytest.mark.parametrize("statement", DAMAGES)
def test_every_damage_is_named(whole: tuple[Database, Collection], statement: str) -> None:
    database, _ = whole
    with database.writing() as session:
        session.execute(text(statement))
    found = list(verify(database, "c"))
    assert any(DAMAGES[statement] in difference.what for difference in found), found
    assert {difference.collection for difference in found} == {"c"}


def verified(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", "verify", "--data-dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_looks_beside_a_running_server(new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.post("/ingest", {"collection": "c", "items": [{"id": "a", "vector": [1.0, 2.0]}]})
    ran = verified(server.data_dir)
    assert (ran.returncode, ran.stdout) == (0, "no differences\n"), ran.stderr
    database = Database(f"sqlite:///{server.data_dir / 'codewell.db'}")
    with database.writing() as session:
        session.execute(text("DELETE FROM rows"))
    database.close()
    ran = verified(server.data_dir)
    assert (ran.returncode, ran.stdout) == (1, "c: 1 items have no vector\n1 differences\n"), ran.stderr


def test_where_there_is_no_database_none_is_made(tmp_path: Path) -> None:
    ran = verified(tmp_path / "nowhere")
    assert (ran.returncode, "there is no database" in ran.stderr) == (1, True)
    assert not (tmp_path / "nowhere").exists()
