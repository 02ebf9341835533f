"""A server over a built folder alone answers as the folder does, and says what it has not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.builds.generation import Generation
from tests.build_files import DIM, VECTORS, N, npy
from tests.conftest import SERVE, Server, clustered, start_server
from tests.test_build import FAST, built

QUERIES = clustered(5, DIM, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("built")
    (home / "ids.txt").write_text("".join(f"é{row}\n" for row in range(N)))
    source = npy(home / "v.npy", VECTORS)
    built(source, "--ids", home / "ids.txt", "--output", home / "words", "--codec", "residual", *FAST)
    return home / "words"


@pytest.fixture(scope="module")
def serving(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("logs"), "--generation", str(folder), MAX_K="50")
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert not list(running.data_dir.glob("*.db"))


def ask(vector: Any, **more: Any) -> dict[str, Any]:
    return {"vector": vector.tolist(), **more}


def test_it_finds_what_the_folder_finds(serving: Server, folder: Path) -> None:
    generation = Generation.open(folder)
    expected = generation.search(QUERIES, 10)
    alone = [serving.post("/search", ask(query)) for query in QUERIES]
    together = serving.post("/search", {"queries": [ask(query) for query in QUERIES]})["results"]
    for one, other, ids, scores in zip(alone, together, expected.ids, expected.scores, strict=True):
        for answer in (one, other):  # in a batch sums are made in another order: the last digit may differ
            assert [hit["id"] for hit in answer["hits"]] == ids
            np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], scores, rtol=1e-5)
            assert (answer["partial"], answer["generation"]) == (False, None)
    mixed = [ask(QUERIES[0], k=3), ask(QUERIES[1], index="buckets"), ask(QUERIES[2], k=3), ask(QUERIES[3])]
    several = serving.post("/search", {"queries": mixed})["results"]
    assert [len(one["hits"]) for one in several] == [3, 10, 3, 10]  # each its own, though plans are looked for together
    for at in (0, 2, 3):
        assert [hit["id"] for hit in several[at]["hits"]] == expected.ids[at][: len(several[at]["hits"])]
    assert [one["buckets"] is not None for one in several] == [False, True, False, False]
    wide = serving.post("/search", ask(VECTORS[3], collection="words", index="buckets", k=2, min_score=0.5))
    assert wide["hits"][0]["id"] == "é3"
    assert wide["buckets"]["candidates"] > 0
    (told,) = serving.get("/collections")["collections"]
    assert (told["name"], told["items"], told["dimension"], told["metric"]) == ("words", N, DIM, "cosine")
    assert told["generation"] == generation.manifest.generation
    assert told["certificate"] == generation.manifest.certificate(folder)
    assert serving.get("/livez") == serving.get("/readyz") == {"status": "alive"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (ask(VECTORS[0], filter={"a": 1}), 422, "filter"),
        ({"text": "words"}, 422, "text"),
        (ask(VECTORS[0], index="exact"), 422, "index"),
        (ask(VECTORS[0], stage="rescore"), 422, "stage"),
        (ask(VECTORS[0, :5]), 422, "vector"),
        (ask(VECTORS[0], k=51), 422, "k"),
        (ask(VECTORS[0], collection="other"), 404, "collection"),
        ({"queries": []}, 422, "queries"),
        ({"queries": [ask(VECTORS[0]), ask(VECTORS[0, :5])]}, 422, "queries[1].vector"),
        ({"queries": [ask(VECTORS[0]), ask(VECTORS[0], explain=True)]}, 422, "queries[1].explain"),
        (ask(VECTORS[0], include=["metadata"]), 422, "include"),
        ({"queries": [ask(VECTORS[0], collection="other")]}, 404, "queries[0].collection"),
        ({"k": 3}, 422, "text"),
    ],
)
def test_what_it_cannot_answer_is_refused_by_field(serving: Server, body: Any, status: int, field: str) -> None:
    assert serving.post("/search", body, status)["field"] == field


def test_nothing_else_is_there(serving: Server) -> None:
    for path in ("/ingest", "/collections"):
        assert serving.client.post(path, json={}).status_code in (404, 405)
    assert serving.client.get("/keys").status_code == 404


def test_what_cannot_be_served_is_one_line(folder: Path, tmp_path: Path) -> None:
    def said(*options: str | Path, **environment: str) -> str:
        run = subprocess.run(
            [*SERVE, "--port", "0", "--generation", *map(str, options)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 1
        assert "Traceback" not in run.stderr
        return run.stderr

    assert "CODEWELL_AUTH=off" in said(folder, "--host", "0.0.0.0")  # noqa: S104 - it is refused
    assert "manifest.json" in said(tmp_path)
    hurt = shutil.copytree(folder, tmp_path / "hurt")
    (codes,) = hurt.glob("generation-*/codec.safetensors")
    codes.write_bytes(codes.read_bytes()[:-1])
    assert "codec.safetensors is not the file that was written" in said(hurt)
    content = bytearray((folder / codes.relative_to(hurt)).read_bytes())
    content[-1] ^= 1
    codes.write_bytes(content)
    assert "codec.safetensors is not the file that was written" in said(hurt)
