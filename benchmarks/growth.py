"""What is left behind when every item of a collection is replaced, time and again, and when all are deleted.

    python -m benchmarks.growth [--rounds 10] [--items 20000] [--database sqlite | postgresql]

Vectors of 384 numbers with codes of 64 bytes, in batches of 1,000 to a real `codewell serve`; a row is one round of
new vectors for all ids, looked at some seconds after its last answer. The log is SQLite's WAL file, or PostgreSQL's
WAL, which it keeps for a while and then writes over; snapshots are the folder of the codes' copies; RSS is the server
process's. After each round every item is there once, and one in a hundred is found by its new vector. The last row is
a minute and a half after all items were deleted. `--database postgresql` runs one of its own (extra `dev`).
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.process import Server
from benchmarks.server import packed, trained
from benchmarks.start import MB, Memory
from models import Vectors
from service.client import Client
from tests.postgres import Postgres

DIM, BATCH = 384, 1_000
LOOKED_FOR = 100
"""One item in so many."""
SETTLED_SECONDS, TIDIED_SECONDS = 6, 90
"""Until a snapshot is written, and until what a minute's rounds of upkeep give back is given back."""
COLUMNS = ("round", "items", "database MB", "log MB", "snapshots MB", "RSS MB", "seconds")


class Kept:
    """What one server keeps, on disk and in memory."""

    def __init__(self, folder: Path, server: Server, postgres: Postgres | None, url: str) -> None:
        self._folder = folder
        self._server = server
        self._postgres = postgres
        self._name = url.partition("?")[0].rpartition("/")[2]

    def row(self, name: str, items: int, seconds: float) -> str:
        """As a table has it."""
        sizes = self._database(), self._log(), self._snapshots(), Memory.of(self._server.answering()).rss
        return f"| {name} | {items:,} | {' | '.join(f'{size / MB:,.1f}' for size in sizes)} | {seconds:.0f} |"

    def _database(self) -> int:
        if self._postgres is None:
            return (self._folder / "codewell.db").stat().st_size
        return int(str(self._postgres.run(f"SELECT pg_database_size('{self._name}')")[0][0]))

    def _log(self) -> int:
        if self._postgres is None:
            return (self._folder / "codewell.db-wal").stat().st_size
        return int(str(self._postgres.run("SELECT sum(size)::bigint FROM pg_ls_waldir()")[0][0]))

    def _snapshots(self) -> int:
        return sum(file.stat().st_size for file in self._folder.glob("snapshots*/**/*") if file.is_file())


def vectors(round_: int, items: int) -> Vectors:
    return np.random.default_rng(round_).standard_normal((items, DIM)).astype(np.float32)


def replace_all(api: Client, new: Vectors, round_: int) -> None:
    """Gives every id a new vector, and looks for some of them."""
    for start in range(0, len(new), BATCH):
        rows = range(start, min(len(new), start + BATCH))
        api.ingest("c", [{"id": str(row), "vector": packed(new[row]), "metadata": {"round": round_}} for row in rows])
    seq = api.collection("c")["seq"]
    for row in range(0, len(new), LOOKED_FOR):
        found = api.search({"collection": "c", "vector": packed(new[row]), "k": 1, "oversample": 100, "min_seq": seq})
        assert [hit["id"] for hit in found["hits"]] == [str(row)], found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    with tempfile.TemporaryDirectory(prefix="growth-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "data"
        postgres = Postgres(Path(scratch) / "postgres") if given.database == "postgresql" else None
        url = postgres.new_database() if postgres is not None else ""
        settings = {"TRAIN_AT": "0", "PICTURES": "false", "LOG_LEVEL": "warning"}
        settings |= {"DATABASE_URL": url} if url else {}
        with Server(folder, 1, **settings) as server, Client(server.url) as api:
            kept = Kept(folder, server, postgres, url)
            for round_ in range(given.rounds + 1):
                began = time.monotonic()
                replace_all(api, vectors(round_, given.items), round_)
                if round_ == 0:
                    trained(api, "c", {"training": {"epochs": 1}})
                seconds = time.monotonic() - began
                time.sleep(SETTLED_SECONDS)
                items = api.collection("c")["items"]
                assert items == given.items, items
                print(kept.row(str(round_) if round_ else "first", items, seconds), flush=True)
            began = time.monotonic()
            for start in range(0, given.items, BATCH):
                ids = [str(row) for row in range(start, min(given.items, start + BATCH))]
                server.post("/collections/c/items/delete", {"ids": ids})
            seconds = time.monotonic() - began
            time.sleep(TIDIED_SECONDS)
            print(kept.row("all deleted", api.collection("c")["items"], seconds), flush=True)
        if postgres is not None:
            postgres.stop()


if __name__ == "__main__":
    main()
