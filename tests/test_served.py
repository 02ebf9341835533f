"""A folder is built anew while it is served; runs of it, merged, answer as the whole."""

import shutil
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.builds.generation import Generation
from service.cli import app
from service.cluster.sharded import merged
from service.deadline import Deadline
from service.index.segment import IndexKind
from service.query import Example, Query
from service.read_only import Found, ReadOnlyCollection
from service.search import Plan, Probed
from tests.build_files import DIM, VECTORS, N, npy
from tests.conftest import clustered, start_server
from tests.test_build import FAST, built

QUERIES = clustered(6, DIM, 6)


def query(vector: Any, k: int = 10, kind: IndexKind = IndexKind.FAISS) -> Query:
    return Query((Example(vector=vector),), Plan(k, 10, kind, None))


def test_runs_merged_are_the_whole(tmp_path: Path) -> None:
    source = npy(tmp_path / "v.npy", np.vstack([VECTORS, VECTORS[:1], np.zeros((1, DIM), np.float32)]))
    (tmp_path / "ids.txt").write_text("".join(f"é{row}\n" for row in range(N)) + "é0\nnone\n")  # two rows are rejected
    built(source, "--ids", tmp_path / "ids.txt", "--output", tmp_path / "out", "--codec", "dense", *FAST, code=3)
    whole = Generation.open(tmp_path / "out")
    asked = [query(one) for one in QUERIES]
    expected = ReadOnlyCollection("out", whole, BoundedSemaphore(1)).search(asked, Deadline())
    for of in (1, 3, 5):  # five do not end where the build's four shards of 300 rows do
        runs = [whole.share(number, of) for number in range(of)]
        assert [len(run) for run in runs] == [N // of] * of
        parts = [ReadOnlyCollection("out", run, BoundedSemaphore(1)).search(asked, Deadline()) for run in runs]
        together = [merged(one, [part[at] for part in parts], None) for at, one in enumerate(asked)]
        assert [[hit[0] for hit in one.hits] for one in together] == [[hit[0] for hit in one.hits] for one in expected]
        for one, other in zip(together, expected, strict=True):
            np.testing.assert_allclose([hit[1] for hit in one.hits], [hit[1] for hit in other.hits], rtol=1e-5)
    assert len(whole.share(0, 2 * N)) == 0  # more runs than items


def test_what_one_run_says_is_said_of_all() -> None:
    parts = [
        Found([("a", 0.9), ("b", 0.5)], None, Probed(2, 3, 40, 1)),
        Found([("c", 0.9), ("d", 0.7)], "its time was over", Probed(2, 5, 60, 0)),
    ]
    found = merged(query(QUERIES[0], 3), parts, None)
    assert found.hits == [("a", 0.9), ("c", 0.9), ("d", 0.7)]  # of equal scores the older row
    assert (found.partial_reason, found.probed) == ("its time was over", Probed(2, 8, 100, 0))
    lost = merged(query(QUERIES[0], 3), parts[:1], "of 2 shards 1 did not answer")
    assert (lost.hits, lost.partial_reason) == ([("a", 0.9), ("b", 0.5)], "of 2 shards 1 did not answer")
    few = [Found([("a", 0.9)], None, None, "2 items too few"), Found([("b", 0.8), ("c", 0.7), ("d", 0.6)], None, None)]
    assert merged(query(QUERIES[0], 3), few, None).partial_reason is None  # together there are enough
    assert merged(query(QUERIES[0], 5), few, None).partial_reason == "2 items too few"
    unknown = [parts[0], parts[1]._replace(probed=Probed(2, 5, 60, None))]
    assert merged(query(QUERIES[0]), unknown, None).probed == Probed(2, 8, 100, None)


def test_ids_are_told_after_a_newer_build_has_removed_their_files(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("".join(f"é{row}\n" for row in range(N)))
    hurt = VECTORS.copy()
    hurt[7] = np.nan  # so that rows are not numbered through
    options = ("--output", tmp_path / "out", "--codec", "dense", *FAST)
    built(npy(tmp_path / "v.npy", hurt), "--ids", tmp_path / "ids.txt", *options, code=3)
    built(tmp_path / "v.npy", "--output", tmp_path / "plain", "--codec-from", tmp_path / "out", *FAST[-2:], code=3)
    for name, mark in (("out", "é"), ("plain", "")):
        folder = tmp_path / name
        collection = ReadOnlyCollection(name, Generation.open(folder), BoundedSemaphore(1))
        shutil.rmtree(folder / "shards")
        found = collection.search([query(VECTORS[row], 1) for row in (5, 600, 1199)], Deadline())
        assert [one.hits[0][0] for one in found] == [f"{mark}5", f"{mark}600", f"{mark}1199"]


def test_a_new_build_is_served_without_an_error(tmp_path: Path) -> None:
    """Whole new contents, so that an answer of both builds would show."""
    folder, inputs = tmp_path / "words", tmp_path / "in"
    inputs.mkdir()
    npy(inputs / "a.npy", VECTORS[:600])
    command = (f"{inputs}/*.npy", "--output", folder, "--codec", "dense", *FAST)
    built(*command)
    server = start_server(tmp_path / "log", "--generation", str(folder))
    before = server.get("/collections")["collections"][0]
    answers: list[tuple[str, frozenset[int]]] = []
    done = threading.Event()

    def ask(vector: Any) -> None:
        while not done.is_set():
            one = server.post("/search", {"vector": vector.tolist(), "k": 50})
            answers.append((one["hits"][0]["id"], frozenset(int(hit["id"]) // 600 for hit in one["hits"])))

    clients = [threading.Thread(target=ask, args=(VECTORS[at],)) for at in (5, 6)]
    for client in clients:
        client.start()
    (inputs / "a.npy").unlink()
    npy(inputs / "b.npy", np.vstack([np.zeros((600, DIM), np.float32), VECTORS[600:]]))  # ids from 600 on
    built(*command, code=3)
    end = time.monotonic() + 30
    while server.get("/collections")["collections"][0]["generation"] == before["generation"]:
        assert time.monotonic() < end, server.log.read_text()
        time.sleep(0.05)
    time.sleep(0.2)
    done.set()
    for client in clients:
        client.join()
    told = server.get("/collections")["collections"][0]
    assert {kinds for _, kinds in answers} == {frozenset({0}), frozenset({1})}  # never of both
    assert {first for first, kinds in answers if kinds == {0}} == {"5", "6"}
    assert told["items"] == 600
    # What is not whole is not served: the one before goes on.
    manifest = folder / "manifest.json"
    content = manifest.read_text()
    manifest.write_text(content.replace(told["generation"], "generation-other"))
    end = time.monotonic() + 10
    while "cannot be served, going on with the old one" not in server.log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.get("/collections")["collections"][0]["generation"] == told["generation"]
    manifest.write_text(content)
    assert server.stop() == 0


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
def test_without_ray_it_says_what_to_install(tmp_path: Path) -> None:
    source = npy(tmp_path / "v.npy", VECTORS)
    said = built(source, "--output", tmp_path / "out", "--bytes", "8", "--epochs", "1", "--ray", "auto", code=1)
    assert "pip install 'codewell[ray]'" in said
    run = CliRunner().invoke(app, ["serve", "--generation", str(tmp_path), "--shards", "2"])
    assert (run.exit_code, "--shards" in run.stderr) == (2, True)
    run = CliRunner().invoke(app, ["serve", "--ray", "auto"])
    assert (run.exit_code, "--generation" in run.stderr) == (2, True)
