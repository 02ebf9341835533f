"""A server over a built folder alone answers as the folder does, and says what it has not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors import safe_open

from service.api import intake
from service.api.search_schemas import SearchRequest
from service.builds import shard as shard_module
from service.builds.generation import Generation
from service.deadline import Deadline
from service.errors import OutOfTime
from service.read_only import Found, ReadOnlyCollection
from service.settings import Settings
from tests.build_files import DIM, VECTORS, N, npy
from tests.conftest import SERVE, Server, clustered, start_server
from tests.test_build import FAST, built
from tests.test_several_servers import until

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
            assert (answer["partial"], answer["generation"]) == (False, generation.manifest.generation)
    mixed = [ask(QUERIES[0], k=3), ask(QUERIES[1], index="buckets"), ask(QUERIES[2], k=3), ask(QUERIES[3])]
    several = serving.post("/search", {"queries": mixed})["results"]
    assert [len(one["hits"]) for one in several] == [3, 10, 3, 10]  # each its own, though plans are looked for together
    for at in (0, 2, 3):
        assert [hit["id"] for hit in several[at]["hits"]] == expected.ids[at][: len(several[at]["hits"])]
    assert [one["buckets"] is not None for one in several] == [False, True, False, False]
    assert {one["generation"] for one in several} == {generation.manifest.generation}
    wide = serving.post("/search", ask(VECTORS[3], collection="words", index="buckets", k=2, min_score=0.5))
    assert wide["hits"][0]["id"] == "é3"
    assert wide["buckets"]["candidates"] > 0
    (told,) = serving.get("/collections")["collections"]
    assert (told["name"], told["items"], told["dimension"], told["metric"]) == ("words", N, DIM, "cosine")
    assert told["generation"] == generation.manifest.generation
    assert told["certificate"] == generation.manifest.certificate(folder)
    assert serving.get("/livez") == serving.get("/readyz") == {"status": "alive"}


def test_a_question_that_its_time_was_over_for_says_so(serving: Server) -> None:
    """Of 100 looks into buckets none takes less than a hundredth of a millisecond, the first is always begun."""
    asked = [ask(query, index="buckets", probes=4_000) for query in clustered(100, DIM, 8)]
    whole = serving.post("/search", {"queries": asked})["results"]
    assert {(one["partial"], one["partial_reason"]) for one in whole} == {(False, None)}
    hasty = serving.post("/search", {"queries": [one | {"timeout_ms": 1} for one in asked]})["results"]
    assert len(hasty) == 100
    assert (hasty[0]["hits"] != [], hasty[0]["buckets"]["probes"] > 0) == (True, True)
    assert (hasty[-1]["hits"], hasty[-1]["partial_reason"]) == ([], "its time was over: it was not looked for")


class Places(Semaphore):
    """As many passes find a place as there are, and the next ones none in time."""

    def release(self, n: int = 1) -> None:
        del n


@pytest.mark.parametrize("places", [0, 1, 2])
def test_only_what_found_no_place_goes_without_an_answer(folder: Path, places: int) -> None:
    generation = Generation.open(folder)
    served = ReadOnlyCollection("words", generation, Places(places))
    body = {"queries": [ask(QUERIES[0], k=3), ask(QUERIES[1], index="buckets"), ask(QUERIES[2], k=3)]}
    asked = [query for _, query, _ in intake.queries(SearchRequest.model_validate(body), Settings())]
    if not places:
        with pytest.raises(OutOfTime) as missed:
            served.search(asked, Deadline(0.02))
        assert (missed.value.status, missed.value.field) == (503, "timeout_ms")
        assert "nothing was found within 20 ms" in missed.value.detail
        return
    by_scan, by_buckets, other = served.search(asked, Deadline(0.02 if places == 1 else 20))
    expected = generation.search(QUERIES[[0, 2]], 3)
    assert [[one for one, _ in found.hits] for found in (by_scan, other)] == expected.ids
    assert (by_scan.partial_reason, other.partial_reason) == (None, None)
    if places == 1:
        assert by_buckets == Found([], "its time was over: it was not looked for", None)
    else:
        assert (len(by_buckets.hits), by_buckets.partial_reason) == (10, None)


def test_a_file_of_ids_is_opened_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generation, opened = Generation.open(folder), list[str]()

    def counted(path: Path, framework: str) -> Any:
        opened.append(path.name)
        return safe_open(path, framework=framework)

    monkeypatch.setattr(shard_module, "safe_open", counted)
    rows = np.random.default_rng(0).permutation(N).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(generation.id, rows)) == [f"é{row}" for row in rows]
    assert len(generation.shards) == 4
    assert sorted(opened) == sorted(set(opened)) == sorted(shard.path.name for shard in generation.shards)
    # Mapped, not held open: there may be thousands of shards.
    held = [os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")]  # noqa: PTH208
    assert not [name for name in held if name.endswith(".safetensors")]
    assert [one for shard in generation.shards for one in shard.ids()] == [f"é{row}" for row in range(N)]


def test_workers_map_the_same_files_and_everyone_is_let_in_where_that_is_said(folder: Path, tmp_path: Path) -> None:
    options = ("--generation", str(folder), "--host", "0.0.0.0", "--workers", "2")  # noqa: S104 - with AUTH=off
    running = start_server(tmp_path, *options, AUTH="off")
    assert "0.0.0.0 can be reached from other machines, and CODEWELL_AUTH is off" in running.log.read_text()
    elsewhere = running.url.replace("127.0.0.1", "127.0.0.2")
    expected = Generation.open(folder).search(QUERIES[:1], 10).ids[0]

    def sharing() -> list[int]:
        """The workers that have the codes' file mapped; each connection may be another's."""
        hits = httpx.post(f"{elsewhere}/search", json=ask(QUERIES[0]), timeout=30).json()["hits"]
        assert [hit["id"] for hit in hits] == expected
        pids = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        return [int(pid) for pid in pids if f"{folder}/generation-" in Path(f"/proc/{pid}/maps").read_text()]

    until(lambda: len(sharing()) == 2)
    assert running.stop() == 0, running.log.read_text()


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
