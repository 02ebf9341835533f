"""What a collection takes of a machine: database, memory, the time of a search, by the number of its items.

    python -m benchmarks.sizing [--items 100000 1000000] [--clients 4]

Collections of 384 numbers without originals, as benchmarks.start makes them: 64-byte codes that are random, in SQLite;
nothing that is measured here hangs on what codes mean. One worker serves from a snapshot of the codes. Searches are of
ten hits, by FAISS's scan of all codes and refinement of 100; one client asks 100 of them one after the other, then
several clients at the same time for ten seconds. RSS is the process's after that.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import numpy as np

from benchmarks.process import Server
from benchmarks.start import DIM, MB, Memory, filled, started
from service.codec_spec import DenseSpec

ALONE, SECONDS = 100, 10


def ask(client: httpx.Client, seed: int) -> float:
    """Seconds of one search."""
    vector = np.random.default_rng(seed).standard_normal(DIM).round(4).tolist()
    began = time.perf_counter()
    answer = client.post("/search", json={"collection": "c", "vector": vector, "k": 10})
    taken = time.perf_counter() - began
    hits = answer.raise_for_status().json()["hits"]
    assert len(hits) == 10, hits
    return taken


def rate(server: Server, clients: int) -> float:
    """Searches a second of several clients."""
    seeds, end = count(), time.monotonic() + SECONDS

    def asked(_: int) -> int:
        with httpx.Client(base_url=server.url, timeout=300) as client:
            done = 0
            while time.monotonic() < end:
                ask(client, next(seeds))
                done += 1
        return done

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(asked, range(clients))) / SECONDS


def row(folder: Path, items: int, clients: int) -> Iterator[str]:
    filled(folder, items)
    yield f"{items:,}"
    yield f"{items * DenseSpec().bytes / MB:,.0f}"
    yield f"{(folder / 'codewell.db').stat().st_size / MB:,.0f}"
    with started(folder, 1, 1) as server, httpx.Client(base_url=server.url, timeout=300) as client:
        ask(client, 0)
        while not list(folder.glob("snapshots/*/*/manifest.json")):
            time.sleep(0.1)
    with started(folder, 1, 1) as server, httpx.Client(base_url=server.url, timeout=300) as client:
        ask(client, 0)
        yield f"{time.monotonic() - server.began:.1f}"
        for value in np.percentile([ask(client, seed) for seed in range(ALONE)], (50, 99)):
            yield f"{1000 * value:.1f}"
        yield f"{rate(server, clients):.0f}"
        yield f"{Memory.of(server.answering()).rss / MB:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--clients", type=int, default=4)
    given = parser.parse_args()
    times = ("first answer s", "search p50 ms", "p99 ms", f"searches/s, {given.clients} clients")
    columns = ("items", "codes MB", "database MB", *times, "RSS MB")
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|", flush=True)
    for items in given.items:
        with tempfile.TemporaryDirectory(prefix="sizing-") as scratch:
            print(f"| {' | '.join(row(Path(scratch), items, given.clients))} |", flush=True)


if __name__ == "__main__":
    main()
