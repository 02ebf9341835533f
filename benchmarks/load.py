"""A server at its limit for minutes: load held, refusals, latency of what was accepted, memory.

    python -m benchmarks.load [--minutes 8] [--parts 8]

More clients search, ingest and delete than the server has places for, over a collection with a trained codec whose
number of items stays the same. Each row is a part of the run; memory is that of the server's process at its end. The
last line has it minute by minute.
"""

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Lock, Thread
from typing import NamedTuple

import numpy as np

from benchmarks.process import Server
from benchmarks.server import packed, trained
from service.client import Client

DIM, ITEMS, BATCH = 64, 20_000, 100
FILTERED = 0.2
SEARCHERS, WRITERS, DELETERS = 24, 4, 2
PLACES, WAITING = 8, 8
REFUSED = (429, 503)
HEADERS = {"Content-Type": "application/json"}


Request = tuple[str, str, bytes]
"""What for, path and body."""


class Call(NamedTuple):
    """One request: what it was for, how it was answered, how long it took."""

    kind: str
    status: int
    seconds: float


class Log:
    """What every client did since it was last asked."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = Lock()

    def add(self, call: Call) -> None:
        """One more."""
        with self._lock:
            self._calls.append(call)

    def taken(self) -> list[Call]:
        """All since then."""
        with self._lock:
            calls, self._calls = self._calls, []
        return calls


def searches(seed: int) -> Iterator[Request]:
    rng = np.random.default_rng(seed)
    while True:
        vector = packed(rng.standard_normal(DIM).astype(np.float32))
        body = {
            "collection": "load",
            "vector": vector,
            "k": 10,
            "filter": {"n": {"$lt": 50}} if rng.random() < 0.2 else None,
        }
        yield "search", "/search", json.dumps(body).encode()


def ingests(seed: int) -> Iterator[Request]:
    rng = np.random.default_rng(seed)
    while True:
        ids = rng.choice(ITEMS, BATCH, replace=False).tolist()
        yield "ingest", "/ingest", batch(rng, ids)


def deletes(seed: int) -> Iterator[Request]:
    rng = np.random.default_rng(seed)
    while True:
        ids = [str(n) for n in rng.choice(ITEMS, 10, replace=False)]
        yield "delete", "/collections/load/items/delete", json.dumps({"ids": ids}).encode()


def batch(rng: np.random.Generator, ids: list[int]) -> bytes:
    vectors = rng.standard_normal((len(ids), DIM)).astype(np.float32)
    items = [
        {"id": str(n), "vector": packed(vector), "metadata": {"n": n % 100}}
        for n, vector in zip(ids, vectors, strict=True)
    ]
    return json.dumps({"collection": "load", "items": items}).encode()


def client(port: int, requests: Iterator[Request], log: Log, stop: Event) -> None:
    """One request after the other over one connection; a refused one is not sent again at once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for kind, path, body in requests:
        if stop.is_set():
            break
        began = time.perf_counter()
        try:
            connection.request("POST", path, body, HEADERS)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        log.add(Call(kind, status, time.perf_counter() - began))
        if status != 200:
            stop.wait(0.05)
    connection.close()


def run(port: int, makers: Sequence[Callable[[int], Iterator[Request]]], seconds: float, log: Log) -> None:
    """The clients, each with requests of its own, for so long."""
    stop = Event()
    threads = [Thread(target=client, args=(port, make(seed), log, stop)) for seed, make in enumerate(makers)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()


def resident(server: Server) -> float:
    """MB of the process."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def watch(server: Server, stop: Event, seen: list[float]) -> None:
    """Notes the memory of the process at once and then each minute."""
    seen.append(resident(server))
    while not stop.wait(60):
        seen.append(resident(server))


def row(name: str, calls: list[Call], seconds: float, server: Server) -> str:
    done = {kind: [one.seconds for one in calls if one.kind == kind and one.status == 200] for kind in KINDS}
    refused = sum(one.status in REFUSED for one in calls)
    errors = sum(one.status not in (200, *REFUSED) for one in calls)
    cells = [name, *(f"{len(done[kind]) / seconds:,.0f}" for kind in KINDS), f"{refused / seconds:,.0f}", str(errors)]
    for kind in ("search", "ingest"):
        cells += [f"{1000 * np.percentile(done[kind], q):,.0f}" if done[kind] else "" for q in (50, 99)]
    return "| " + " | ".join([*cells, f"{resident(server):,.0f}"]) + " |"


KINDS = ("search", "ingest", "delete")
COLUMNS = (
    "part", "searches/s", "batches/s", "deletions/s", "refused/s", "errors",
    "search p50, ms", "p99", "batch p50, ms", "p99", "RSS, MB",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--parts", type=int, default=8)
    given = parser.parse_args()
    limits = {"CONCURRENT_REQUESTS": str(PLACES), "WAITING_REQUESTS": str(WAITING), "WAITING_MS": "500"}
    with (
        tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as folder,
        Server(Path(folder), 1, TRAIN_AT="0", PICTURES="false", LOG_LEVEL="error", **limits) as server,
    ):
        port, log = int(server.url.rpartition(":")[2]), Log()
        rng = np.random.default_rng(0)
        with Client(server.url) as api:
            for start in range(0, ITEMS, 2_000):
                content = json.loads(batch(rng, list(range(start, start + 2_000))))
                api.ingest("load", content["items"])
            trained(api, "load", {"codec": {"bytes": 32}, "training": {"epochs": 3}})
        rows = []
        run(port, [searches], 10, log)
        rows.append(row("one client alone", log.taken(), 10, server))
        load = [searches] * SEARCHERS + [ingests] * WRITERS + [deletes] * DELETERS
        run(port, load, 20, log)
        rows.append(row("first 20 seconds", log.taken(), 20, server))
        seconds = 60 * given.minutes / given.parts
        over, by_minute = Event(), list[float]()
        watching = Thread(target=watch, args=(server, over, by_minute))
        watching.start()
        for part in range(1, given.parts + 1):
            run(port, load, seconds, log)
            rows.append(row(f"minute {part * given.minutes / given.parts:g}", log.taken(), seconds, server))
            print(rows[-1], file=sys.stderr, flush=True)
        over.set()
        watching.join()
        run(port, [searches], 10, log)
        rows.append(row("one client alone", log.taken(), 10, server))
    print(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
    print("\n".join(rows))
    print("\nRSS by minute, MB:", " ".join(f"{held:.0f}" for held in by_minute))


if __name__ == "__main__":
    main()
