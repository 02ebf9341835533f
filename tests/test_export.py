"""What is exported is what was there, in one moment, and can be taken in again."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from models import Metric
from service.errors import InvalidInput, OriginalsDropped
from service.export import export
from service.generation import Build
from service.item import NewItem
from service.originals import Originals
from tests.conftest import Server
from tests.test_collection import VECTORS, catalog_of, item
from tests.test_originals import TINY, ignore


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("name", ["c.ndjson", "c.jsonl.gz", "c.parquet"])
def test_every_item_is_written_as_it_is(database_url: str, tmp_path: Path, name: str) -> None:
    database, catalog = catalog_of(database_url)
    collection = catalog.create("c", dimension=8, metric=Metric.L2)
    collection.ingest([item(str(v), VECTORS[v], tag=v) for v in range(300)])
    collection.ingest([NewItem("7", "words", VECTORS[301], {"ä": None})])
    collection.delete(["8"])
    (tmp_path / name).write_text("what was there before")
    assert export(database, "c", tmp_path / name) == (299, 302)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    if name.endswith("parquet"):
        rows = pq.read_table(tmp_path / name).to_pylist()
        found = {row["id"]: (row["text"], json.loads(row["metadata"]), row["vector"]) for row in rows}
    else:
        found = {row["id"]: (row.get("text"), row["metadata"], row["vector"]) for row in lines(tmp_path / name)}
    expected = {str(v): (None, {"tag": v}, VECTORS[v]) for v in range(300) if v not in (7, 8)}
    expected |= {"7": ("words", {"ä": None}, VECTORS[301])}  # type: ignore[dict-item]
    assert found.keys() == expected.keys()
    for item_id, (text, metadata, vector) in expected.items():
        assert found[item_id][:2] == (text, metadata)
        np.testing.assert_array_equal(np.array(found[item_id][2], np.float32), vector)
    database.close()


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("c", dimension=8, originals=Originals.DROP)
    collection.ingest([item(str(v), VECTORS[v]) for v in range(150)])
    Build(database, collection.id, {**TINY, "codec": {"bytes": 8}}, tmp_path / "scratch", ignore).run(10_000)
    with pytest.raises(OriginalsDropped):
        export(database, "c", tmp_path / "c.ndjson")
    with pytest.raises(InvalidInput, match="ends with none of"):
        export(database, "c", tmp_path / "c.csv")
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} <= {".db", ".db-wal", ".db-shm"}
    database.close()


@pytest.mark.parametrize("suffix", ["ndjson.gz", "parquet"])
def test_the_command_writes_what_ingest_takes(server: Server, name: str, tmp_path: Path, suffix: str) -> None:
    given = [{"id": f"i{v}", "vector": VECTORS[v].tolist(), "metadata": {"ä": [v, None]}} for v in range(50)]
    given[7] |= {"text": "seven"}
    server.post("/ingest", {"collection": name, "items": given})
    path = tmp_path / f"c.{suffix}"

    def ran(*arguments: str) -> str:
        command = [sys.executable, "-m", "service.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert ran("export", name, str(path), "--data-dir", str(server.data_dir)) == "50 items, as of seq 50\n"
    ran("ingest", str(path), "--collection", f"{name}-again", "--url", server.url, "--batch", "20")
    ids = {"ids": [one["id"] for one in given], "include": ["vector", "metadata", "text"]}
    both = [server.post(f"/collections/{one}/items/get", ids)["items"] for one in (name, f"{name}-again")]
    kept = [[(one["id"], one["text"], one["vector"], one["metadata"]) for one in items] for items in both]
    assert kept[0] == kept[1]
    assert [(one[0], one[3]) for one in kept[1]] == [(one["id"], one["metadata"]) for one in given]
    assert kept[1][7][1] == "seven"
