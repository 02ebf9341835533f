"""How long a server takes to its first answer, and the memory of its workers: codes from the database or a snapshot.

    python -m benchmarks.start [--items 1000000] [--workers 1 4] [--index faiss] [--folder FOLDER]

A collection without originals (`"originals": "drop"`) is written straight into a SQLite file: items, their 64-byte
codes, which are random, and a codec of 384 numbers that was trained for one epoch on noise; neither time nor memory
hangs on what codes mean. Then real `codewell serve` processes are started over it. "ready" is when /readyz answers,
"first answer" when the first search does, both in seconds since the start of the process; the files are in the page
cache. Memory is that of the processes that answer, once each has answered: RSS counts shared pages in every process,
PSS divides them by how many share them, so that PSS adds up. `--folder` keeps the database for another run. With
`--index buckets` all searches look into hash buckets, and the snapshot has their tables.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.process import Server
from models import Metric, TrainingConfig, fit, prepared
from service.codec_spec import DenseSpec
from service.store import schema, store
from service.store.bulk import insert_rows
from service.store.database import Database
from service.store.tables import CodeRow, CollectionRow, GenerationRow, ItemRow

DIM, PAGE = 384, 20_000
MB = 1e6
LIBRARIES = 100 * MB
"""A worker that takes less is still being started."""


class Memory(NamedTuple):
    """Of several processes together, in bytes."""

    rss: int
    pss: int

    @classmethod
    def of(cls, pids: Sequence[int]) -> "Memory":
        """As the kernel counts it."""
        held = [0, 0]
        for pid in pids:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            sizes = {line.split()[0]: 1024 * int(line.split()[1]) for line in lines[1:]}
            held = [held[0] + sizes["Rss:"], held[1] + sizes["Pss:"]]
        return cls(*held)


class Start(NamedTuple):
    """What was measured of one start."""

    ready: float
    answered: float
    before: Memory
    """Of the workers, before they have codes,"""
    after: Memory
    """and when each of them has answered."""


def filled(folder: Path, items: int) -> None:
    """Writes the collection, unless it is there."""
    database = Database(f"sqlite:///{(folder / 'codewell.db').absolute()}")
    schema.upgrade(database)
    with database.reading() as session:
        if store.find_collection(session, "c") is not None:
            return
    rng = np.random.default_rng(0)
    config = DenseSpec().config(DIM, Metric.COSINE)
    noise = prepared(rng.standard_normal((5_000, DIM)).astype(np.float32), Metric.COSINE)
    codec = fit(config, noise, Metric.COSINE, TrainingConfig(epochs=1)).codec
    now = time.time()
    with database.writing() as session:
        row = CollectionRow(
            name="c",
            dimension=DIM,
            metric=Metric.COSINE.value,
            originals="drop",
            codec=DenseSpec().model_dump(mode="json"),
            created_at=now,
            seq=items,
            floor_seq=items,
            item_count=items,
        )
        session.add(row)
        session.flush()
        generation = GenerationRow(
            collection_id=row.id,
            state="published",
            codec=codec.to_bytes(),
            fingerprint=codec.fingerprint,
            certificate={},
            created_at=now,
        )
        session.add(generation)
        session.flush()
        row.generation_id = generation.id
        collection_id, generation_id = row.id, generation.id
    fixed = {"text": None, "item_metadata": "{}", "created_at": now, "updated_at": now, "digest": bytes(16)}
    for first in range(1, items + 1, PAGE):
        rows = range(first, min(items + 1, first + PAGE))
        codes = rng.integers(0, 256, (len(rows), codec.code_bytes), np.uint8)
        with database.writing() as session:
            insert_rows(
                session,
                ItemRow,
                [
                    {"collection_id": collection_id, "item_id": str(row), "row_id": row, "seq": row, **fixed}
                    for row in rows
                ],
            )
            insert_rows(
                session,
                CodeRow,
                [
                    {"generation_id": generation_id, "row_id": row, "code": code.tobytes()}
                    for row, code in zip(rows, codes, strict=True)
                ],
            )
    database.close()


def searched(server: Server, index: str, seed: int) -> None:
    vector = np.random.default_rng(seed).standard_normal(DIM).tolist()
    hits = server.post("/search", {"collection": "c", "vector": vector, "k": 10, "index": index, "timeout_ms": 20_000})[
        "hits"
    ]
    assert len(hits) == 10, hits


def workers_of(server: Server) -> list[int]:
    """The processes that answer, once all of them have their libraries."""
    while True:
        found = server.answering()
        if len(found) == server.workers and min(Memory.of([pid]).rss for pid in found) > LIBRARIES:
            return found
        time.sleep(0.1)


def started(folder: Path, workers: int, snapshot_at: int) -> Server:
    return Server(folder, workers, SNAPSHOT_AT=str(snapshot_at), TRAIN_AT="0", THREADS=str(os.cpu_count()))


def measured(folder: Path, workers: int, snapshot_at: int, index: str, codes: int) -> Start:
    """Starts a server and lets every worker answer; `codes` is what their codes take, in bytes."""
    with started(folder, workers, snapshot_at) as server:
        ready = time.monotonic() - server.began
        searched(server, index, 0)
        answered = time.monotonic() - server.began
    with started(folder, workers, snapshot_at) as server:  # anew, for what they hold before they have codes
        pids = workers_of(server)
        before = {pid: Memory.of([pid]) for pid in pids}
        together = Memory.of(pids)
        with ThreadPoolExecutor(workers) as pool:
            while True:
                list(pool.map(partial(searched, server, index), range(4 * workers)))
                if all(Memory.of([pid]).rss > before[pid].rss + codes for pid in pids):
                    break
        return Start(ready, answered, together, Memory.of(pids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--index", choices=("faiss", "buckets"), default="faiss")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="start-") as scratch:
        folder = given.folder or Path(scratch)
        filled(folder, given.items)
        print(f"{given.items:,} items; the SQLite file has {(folder / 'codewell.db').stat().st_size / MB:,.0f} MB")
        columns = ("workers", "codes from", "ready s", "first answer s", "PSS without codes MB", "PSS MB", "RSS MB")
        print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
        for source in ("database", "snapshot"):
            snapshot_at = 0
            if source == "snapshot":
                snapshot_at = 1
                with started(folder, 1, snapshot_at) as server:
                    searched(server, given.index, 0)
                    named = "*-buckets" if given.index == "buckets" else "*"
                    while not list(folder.glob(f"snapshots/*/{named}/manifest.json")):
                        time.sleep(0.1)
            for workers in given.workers:
                start = measured(folder, workers, snapshot_at, given.index, given.items * DenseSpec().bytes)
                held = (start.before.pss, start.after.pss, start.after.rss)
                sizes = " | ".join(f"{size / MB:,.0f}" for size in held)
                print(f"| {workers} | {source} | {start.ready:.1f} | {start.answered:.1f} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
