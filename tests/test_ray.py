"""Builds and searches on a real Ray cluster of one node. `make ray` runs it; benchmarks/cluster.py has three nodes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.builds.generation import Generation
from tests.build_files import DIM, VECTORS, npy
from tests.conftest import Server, clustered, start_server
from tests.test_build import ENVIRONMENT, FAST, built, built_apart, command, files

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: `make ray` installs it"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
QUERIES = clustered(6, DIM, 6)
CPUS = 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of one node."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--num-cpus", str(CPUS), "--object-store-memory", str(100_000_000), "--include-dashboard=false")
    with (tmp_path_factory.mktemp("ray") / "log").open("wb") as log:
        node = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}", *options],
            env=ENVIRONMENT | {"RAY_DISABLE_USAGE_STATS": "1", "PYTHONPATH": os.getcwd()},  # noqa: PTH109
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"127.0.0.1:{port}"
    status = [str(Path(sys.executable).with_name("ray")), "status", "--address", address]
    end = time.monotonic() + 60
    while subprocess.run(status, capture_output=True, timeout=60, check=False).returncode:
        assert time.monotonic() < end
    yield address
    node.terminate()
    node.wait(timeout=60)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npy(tmp_path_factory.mktemp("in") / "v.npy", VECTORS)


@pytest.fixture(scope="module")
def local(source: Path) -> Path:
    folder = source.parent / "local"
    built_apart(source, "--output", folder, *FAST)
    return folder


def workers(name: str) -> list[int]:
    """Processes of the cluster that are at such work, by what Ray calls them."""
    found = subprocess.run(["pgrep", "-f", f"^ray::{name}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def on_cluster(address: str, *options: str | Path) -> tuple[str | Path, ...]:
    return (*options, *FAST[:-2], "--ray", address)


def test_the_codes_are_those_of_a_build_without_it(cluster: str, source: Path, local: Path, tmp_path: Path) -> None:
    told = built_apart(source, *on_cluster(cluster, "--output", tmp_path / "out"))
    assert (told["encoded"], told["codec"]) == (len(VECTORS), "trained")
    assert told["worker_peak_mb"] > 50
    shards = {name: content for name, content in files(local).items() if name.startswith("shards/")}
    assert {name: (tmp_path / "out" / name).read_bytes() for name in shards} == shards
    assert built_apart(source, *on_cluster(cluster, "--output", tmp_path / "out"))["codec"] == "unchanged"


def test_a_worker_that_is_killed_costs_its_shard_only(cluster: str, local: Path, tmp_path: Path) -> None:
    """Residual codes, so that there is time to kill."""
    many = npy(tmp_path / "v.npy", np.vstack([VECTORS] * 20))
    npy(tmp_path / "few.npy", VECTORS)
    residual = ("--codec", "residual", "--bytes", "8", "--shard-rows", "1000")
    built(tmp_path / "few.npy", "--output", tmp_path / "codec", *residual)
    taken = ("--codec-from", tmp_path / "codec", "--shard-rows", "1000")
    building = subprocess.Popen(
        command(many, "--output", tmp_path / "out", *taken, "--ray", cluster),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    killed = 0
    while building.poll() is None and killed < 3:
        for pid in workers("_encoded")[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
            time.sleep(0.5)
        time.sleep(0.01)
    told, _ = building.communicate(timeout=120)
    assert building.returncode == 0
    assert killed > 0, told
    built(many, "--output", tmp_path / "alone", *taken, "--workers", "1")
    shards = {name: content for name, content in files(tmp_path / "alone").items() if name.startswith("shards/")}
    assert len(shards) == 24
    assert {name: (tmp_path / "out" / name).read_bytes() for name in shards} == shards


def test_what_cannot_be_built_is_one_line(cluster: str, source: Path, tmp_path: Path) -> None:
    out = ("--output", tmp_path / "out")
    assert "no Ray cluster answers at 127.0.0.1:1" in built_apart(source, *on_cluster("127.0.0.1:1", *out), code=1)
    (tmp_path / "ids.txt").write_text("a\n" * 1200)
    told = built_apart(source, "--ids", tmp_path / "ids.txt", *on_cluster(cluster, *out), "--max-rejects", "5", code=1)
    assert "--max-rejects" in told  # one id for all: 1,199 rows cannot be kept


def serving(cluster: str, folder: Path, log: Path, *options: str) -> Server:
    return start_server(log, "--generation", str(folder), "--ray", cluster, *options, SEARCH_MS="5000")


def ask(server: Server, vector: Any, **more: Any) -> Any:
    return server.post("/search", {"vector": vector.tolist(), **more})


class Asking:
    """Two clients that go on asking, and what they are answered."""

    def __init__(self, server: Server) -> None:
        self.answers: list[Any] = []
        self._server = server
        self._done = threading.Event()
        self._clients = [threading.Thread(target=self._run, args=(query,)) for query in QUERIES[:2]]
        for client in self._clients:
            client.start()

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *ended: object) -> None:
        self.end()

    def _run(self, query: Any) -> None:
        while not self._done.is_set():
            answer = self._server.client.post("/search", json={"vector": query.tolist(), "k": 20})
            self.answers.append(answer.json() if answer.status_code == 200 else answer.text)

    def until(self, what: Any, seconds: float = 60) -> None:
        """`what` is true of the newest answer."""
        end = time.monotonic() + seconds
        while not (self.answers and what(self.answers[-1])):
            assert not self.answers or isinstance(self.answers[-1], dict), self.answers[-1]
            assert time.monotonic() < end, (self.answers[-1:], self._server.log.read_text()[-2000:])
            time.sleep(0.01)

    def end(self) -> None:
        self._done.set()
        for client in self._clients:
            client.join()


def test_shards_answer_as_the_folder_does(cluster: str, local: Path, tmp_path: Path) -> None:
    server = serving(cluster, local, tmp_path / "log", "--shards", "3")
    expected = Generation.open(local).search(QUERIES, 10)
    for query, ids, scores in zip(QUERIES, expected.ids, expected.scores, strict=True):
        found = ask(server, query)
        assert [hit["id"] for hit in found["hits"]] == ids
        np.testing.assert_allclose([hit["score"] for hit in found["hits"]], scores, rtol=1e-5)
        assert not found["partial"]
    together = server.post("/search", {"queries": [{"vector": query.tolist(), "k": 3} for query in QUERIES]})
    assert [[hit["id"] for hit in one["hits"]] for one in together["results"]] == [ids[:3] for ids in expected.ids]
    assert server.post("/search", {"vector": [1.0] * 5}, 422)["field"] == "vector"
    assert ask(server, QUERIES[0], index="buckets", probes=4)["buckets"]["candidates"] > 0
    # Another process over the same folder shares the replicas, and does not replace them.
    before = workers("ServeReplica")
    other = serving(cluster, local, tmp_path / "other", "--shards", "3")
    assert [hit["id"] for hit in ask(other, QUERIES[0])["hits"]] == expected.ids[0]
    assert workers("ServeReplica") == before
    assert other.stop() == 0
    # A replica is lost: what the others find is told, and soon all again.
    with Asking(server) as asking:
        asking.until(lambda one: not one["partial"])
        (victim,) = workers("ServeReplica:.*share-1")
        os.kill(victim, signal.SIGKILL)
        asking.until(lambda one: one["partial"])
        asking.until(lambda one: not one["partial"])
    answers = asking.answers
    assert not [one for one in answers if isinstance(one, str)]
    partial = [one for one in answers if one["partial"]]
    assert {one["partial_reason"] for one in partial} == {"of 3 shards 1 did not answer (1): their items are missing"}
    assert not [hit for one in partial for hit in one["hits"] if 400 <= int(hit["id"]) < 800]
    assert [len(one["hits"]) for one in answers] == [20] * len(answers)
    # What somebody else removes from the cluster is not waited for.
    build = server.get("/collections")["collections"][0]["generation"]
    removing = f"import ray, ray.serve; ray.init({cluster!r}); ray.serve.delete('codewell-{build}-3-1')"
    subprocess.run([sys.executable, "-c", removing], env=ENVIRONMENT, check=True, capture_output=True, timeout=120)
    body = {"vector": QUERIES[0].tolist()}
    began = time.monotonic()
    for _ in range(2):
        assert "no shard answers" in server.post("/search", body, 503)["detail"]
    assert time.monotonic() - began < 4
    assert server.stop() == 0
    log = server.log.read_text()
    assert "shard 1 does not answer" in log
    assert "shard 1 answers again" in log
    assert "Traceback" not in log


def test_replicas_hide_a_loss_and_a_new_build_takes_over(cluster: str, tmp_path: Path) -> None:
    inputs, folder = tmp_path / "in", tmp_path / "words"
    inputs.mkdir()
    npy(inputs / "a.npy", VECTORS[:600])
    building = (f"{inputs}/*.npy", "--output", folder, *FAST)
    built(*building)
    server = serving(cluster, folder, tmp_path / "log", "--shards", "1", "--replicas", "2")
    with Asking(server) as asking:
        asking.until(lambda one: len(one["hits"]) == 20)
        before = server.get("/collections")["collections"][0]["generation"]
        os.kill(workers(f"ServeReplica:codewell-{before}.*share-0")[0], signal.SIGKILL)
        time.sleep(3)
        (inputs / "a.npy").unlink()
        npy(inputs / "b.npy", np.vstack([np.zeros((600, DIM), np.float32), VECTORS[600:]]))  # ids from 600 on
        built(*building, code=3)
        asking.until(lambda one: int(one["hits"][0]["id"]) >= 600)
        end = time.monotonic() + 60
        while workers(f"ServeReplica:codewell-{before}"):  # the older build is closed
            assert time.monotonic() < end
            time.sleep(0.2)
    answers = asking.answers
    assert not [one for one in answers if isinstance(one, str) or one["partial"]]
    kinds = [frozenset(int(hit["id"]) // 600 for hit in one["hits"]) for one in answers]
    assert set(kinds) == {frozenset({0}), frozenset({1})}  # never of both builds
    now = server.get("/collections")["collections"][0]["generation"]
    assert len(workers(f"ServeReplica:codewell-{now}.*share-0")) == 2
    assert server.stop() == 0


def test_what_cannot_be_served_is_one_line(cluster: str, local: Path) -> None:
    def said(*options: str) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--generation", str(local), *options],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 1, run.stderr
        assert "Traceback" not in run.stderr
        return run.stderr

    assert "no Ray cluster answers at 127.0.0.1:1" in said("--ray", "127.0.0.1:1")
    told = said("--ray", cluster, "--shards", "50")
    assert "50 shards of 1 take 50 CPUs, and " in told
    assert f"of the cluster's {CPUS} are free" in told
