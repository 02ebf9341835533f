"""Fixtures that several files share: a real server process, and small vectors with real neighbourhoods."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import settings

from models import (
    Codec,
    CodecConfig,
    DenseConfig,
    LatentType,
    Metric,
    QuantizerConfig,
    ResidualConfig,
    TrainingConfig,
    Vectors,
    fit,
    kind_of,
    prepared,
)
from tests.postgres import Postgres

# A loaded machine is slow, not wrong; pytest's own timeout ends what hangs.
settings.register_profile("codewell", deadline=None)
settings.load_profile("codewell")

SERVE = [sys.executable, "-m", "service.cli", "serve"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small matrices are slower on several threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts background commands with SIGINT ignored, and their children inherit that; tests press Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def clustered(n: int, dim: int, seed: int = 0, clusters: int = 40) -> Vectors:
    """(n, D) vectors around cluster centres that lie in a subspace: neighbours mean something, as in real data."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).standard_normal((max(2, dim // 2), dim))
    centres = np.random.default_rng(98).standard_normal((clusters, len(basis)))
    latent = centres[rng.integers(0, clusters, n)] + 0.4 * rng.standard_normal((n, len(basis)))
    return (latent @ basis + 0.05 * rng.standard_normal((n, dim))).astype(np.float32)


@pytest.fixture(scope="session")
def wordnet() -> Vectors:
    """(2000, 384) real unit vectors, all-MiniLM-L6-v2 of WordNet glosses: see tests/README.md."""
    stored = np.load(Path(__file__).parent / "wordnet-2000.npy")
    return prepared(stored.astype(np.float32), Metric.COSINE)


@pytest.fixture(scope="session")
def tiny_codec() -> Codec:
    """A dense codec of dimension 8 at its start: rotated principal axes, int8."""
    return started_codec(DenseConfig(6, LatentType.INT8, decoder_hidden=(8,)), Metric.L2)


@cache
def started_codec(config: CodecConfig, metric: Metric, dim: int = 8) -> Codec:
    """An untrained codec with its data-dependent start, which is a usable one; one of codewords has to be trained."""
    kind = kind_of(config)
    if isinstance(config, ResidualConfig | QuantizerConfig):
        return fit(config, prepared(clustered(600, dim), metric), metric, TrainingConfig()).codec
    model = kind.architecture(dim, config)
    sample = torch.from_numpy(prepared(clustered(500, dim), metric))
    with torch.no_grad():
        model.start(sample, torch.Generator().manual_seed(0))
        model.settle(sample)
    codec: Codec = kind.codec(model, metric)
    return codec


@dataclass
class Server:
    """A real `codewell serve` process."""

    process: subprocess.Popen[bytes]
    url: str
    client: httpx.Client
    data_dir: Path
    log: Path

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        """Posts JSON and returns the answer's JSON, which must have `status`."""
        answer = self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, status: int = 200) -> Any:
        """The JSON at `path`."""
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def spawned(self) -> list[int]:
        """Its workers and jobs: processes of multiprocessing that it has started."""
        found = []
        for path in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread or a process that has just ended
                children = path.read_text().split()
                found += [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found

    def metrics(self) -> dict[str, float]:
        """What Prometheus would read: by name and labels, as they stand in the text."""
        answer = self.client.get("/metrics")
        assert answer.status_code == 200, answer.text
        lines = (line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}

    def finished(self, job_id: str, seconds: float = 60) -> Any:
        """The job once it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.get(f"/jobs/{job_id}")
            if job["state"] not in ("queued", "running"):
                return job
            time.sleep(0.1)
        raise AssertionError(f"job {job_id} did not end: {self.get(f'/jobs/{job_id}')}\n{self.log.read_text()}")

    def trained(self, collection: str, **body: Any) -> Any:
        """The result of a training that must succeed; the served view has it."""
        job = self.finished(self.post(f"/collections/{collection}/train", body, 202)["id"])
        assert job["state"] == "succeeded", job
        generation = job["result"]["generation"]
        end = time.monotonic() + 10
        while time.monotonic() < end:
            answer = self.post("/search", {"collection": collection, "vector": [0.5] * self.dimension(collection)})
            if answer["generation"] == generation:
                return job["result"]
            time.sleep(0.05)
        raise AssertionError("the new generation was not served")

    def dimension(self, collection: str) -> int:
        """Of a collection's vectors."""
        return int(self.get(f"/collections/{collection}")["dimension"])

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Ends the process and returns its exit code."""
        self.process.send_signal(with_signal)
        code = self.process.wait(timeout=20)
        self.client.close()
        return code


def start_server(data_dir: Path, *options: str, **settings: str) -> Server:
    """Starts a server over `data_dir` and waits until it is ready."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    defaults = {"DATA_DIR": str(data_dir), "PORT": str(port), "ENCODER": "tfidf", "TRAIN_AT": "0", "THREADS": "1"}
    defaults["PICTURES"] = "false"  # drawing takes longer than training on so few vectors
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
    environment |= {f"CODEWELL_{name}": value for name, value in (defaults | settings).items()}
    log = data_dir / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*SERVE, *options], env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    client = httpx.Client(base_url=url, timeout=60)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {log.read_text()}")
        try:
            if client.get("/readyz").status_code == 200:
                return Server(process, url, client, data_dir, log)
        except httpx.TransportError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the server did not become ready: {log.read_text()}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not hurt it; each uses collections of its own."""
    running = start_server(tmp_path_factory.mktemp("server"))
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real PostgreSQL server."""
    running = Postgres(tmp_path_factory.mktemp("postgres"))
    yield running
    running.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sub' / 'codewell.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers over this test's own folder, with settings as keywords; ends those that still run."""
    started: list[Server] = []

    def start(**settings: str) -> Server:
        started.append(start_server(tmp_path / "data", **settings))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A collection name that no other test uses."""
    return str(request.node.name).replace("[", "-").replace("]", "").replace("test_", "", 1)[:100]
