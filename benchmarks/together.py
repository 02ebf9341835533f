"""Two writers and four readers on one collection for a minute: no error, no lost update, equal answers at equal seq.

    python -m benchmarks.together [--seconds 60] [--database sqlite | postgresql]

A real `codewell serve` with two workers, over a collection with a trained codec; every request has a connection of its
own, so that either worker may answer. Both writers count up the same items: they read a few, and write each with its
count plus one, a vector that belongs to that count, and `if_seq`, until nobody came between. Readers search from the
last acknowledged seq on. After every three seconds of the minute writers rest, and all four readers ask the same
questions.

    errors      answers other than 200, and than 409 to a write that came too late
    stale       hits with a count that is below the one acknowledged before the search
    lost        items whose count or vector is not that of their acknowledged writes
    unequal     questions of a rest that two readers were answered differently, or whose exact answer is another one

Exit code 1 where there is one. `--database postgresql` runs one of its own (extra `dev`).
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import Any

import httpx
import numpy as np

from benchmarks.process import Server
from benchmarks.promises import DIM, vector
from benchmarks.server import trained
from benchmarks.start import LIBRARIES, Memory
from models import Metric, exact_neighbours, prepared
from service.client import Client
from tests.postgres import Postgres

WRITERS, READERS, WORKERS = 2, 4, 2
ITEMS, BATCH, K = 400, 5, 10
REST_SECONDS = 3
QUESTIONS = np.random.default_rng(0).standard_normal((10, DIM)).astype(np.float32)
WRONG = ("errors", "stale", "lost", "unequal")
COLUMNS = ("rests", "writes", "too late", "searches", "questions", *WRONG)


class Counting:
    """What was acknowledged of the items, each with a count that starts at 0."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = Lock()
        self.counts = dict.fromkeys((f"i{n}" for n in range(ITEMS)), 0)
        self.seq = 0
        self.seen: Counter[str] = Counter()

    def item(self, item_id: str, count: int) -> dict[str, Any]:
        """As it is sent."""
        return {"id": item_id, "vector": vector(item_id, count), "metadata": {"count": count}}

    def write(self, seed: list[int], stop: Event) -> None:
        """Counts up a few items at a time until told to stop."""
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            ids = [str(item_id) for item_id in rng.choice(list(self.counts), BATCH, replace=False)]
            found = self._asked("/collections/c/items/get", {"ids": ids, "include": ["metadata"]})
            if found is None:
                continue
            items = [
                self.item(item["id"], item["metadata"]["count"] + 1) | {"if_seq": item["seq"]}
                for item in found["items"]
            ]
            receipt = self._asked("/ingest", {"collection": "c", "items": items}, late=409)
            with self._lock:
                results = receipt["results"] if receipt is not None else []
                done = [result["id"] for result in results if result["status"] == "updated"]
                self.seen["writes"] += len(done)
                self.seen["too late"] += len(results) - len(done)
                for item_id in done:
                    self.counts[item_id] += 1
                self.seq = max(self.seq, receipt["seq"]) if receipt is not None else self.seq

    def read(self, seed: list[int], stop: Event) -> None:
        """Searches until told to stop."""
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            with self._lock:
                counts, seq = dict(self.counts), self.seq
            hits = self._hits(rng.standard_normal(DIM).tolist(), seq)
            with self._lock:
                self.seen["searches"] += 1
                self.seen["stale"] += sum(hit["metadata"]["count"] < counts[hit["id"]] for hit in hits)

    def rest(self) -> None:
        """Looks whether what is there is what was acknowledged, and whether all readers are answered the same."""
        ids = list(self.counts)
        found = self._asked("/collections/c/items/get", {"ids": ids, "include": ["metadata", "vector"]})
        there = {item["id"]: item for item in found["items"]} if found is not None else {}
        for item_id, count in self.counts.items():
            item = there.get(item_id)
            right = item is not None and (item["metadata"]["count"], item["vector"]) == (count, vector(item_id, count))
            self.seen["lost"] += not right
        vectors = [vector(item_id, count) for item_id, count in self.counts.items()]
        now = prepared(np.array(vectors, np.float32), Metric.COSINE)
        truth = [[ids[place] for place in rows] for rows in exact_neighbours(now, QUESTIONS, K, Metric.COSINE).rows]
        with ThreadPoolExecutor(READERS) as pool:
            answers = list(
                pool.map(lambda _: [self._both(question) for question in QUESTIONS.tolist()], range(READERS))
            )
        for expected, *told in zip(truth, *answers, strict=True):
            exact = [hit["id"] for hit in told[0]["exact"]]
            self.seen["questions"] += 1
            self.seen["unequal"] += exact != expected or any(answer != told[0] for answer in told)
        self.seen["rests"] += 1

    def _both(self, question: list[float]) -> dict[str, Any]:
        return {"codes": self._hits(question, self.seq), "exact": self._hits(question, self.seq, index="exact")}

    def _hits(self, question: list[float], seq: int, **more: str) -> list[dict[str, Any]]:
        body = {"collection": "c", "vector": question, "k": K, "include": ["metadata"], "min_seq": seq}
        answer = self._asked("/search", body | {"wait_ms": 10_000} | more)
        return answer["hits"] if answer is not None else []

    def _asked(self, path: str, body: Any, late: int | None = None) -> Any:
        """The answer; none where it is an error, or `late`."""
        answer = httpx.post(f"{self._server.url}{path}", json=body, timeout=60)
        if answer.status_code == 200:
            return answer.json()
        with self._lock:
            if answer.status_code == late:
                self.seen["too late"] += BATCH
            else:
                print(f"{path}: {answer.status_code} {answer.text}", file=sys.stderr)
                self.seen["errors"] += 1
        return None


def searched(server: Server) -> None:
    """Asks either worker."""
    server.post("/search", {"collection": "c", "vector": QUESTIONS[0].tolist(), "k": K, "timeout_ms": 100_000})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="together-", ignore_cleanup_errors=True) as scratch:
        postgres = Postgres(Path(scratch) / "postgres") if given.database == "postgresql" else None
        settings = {"TRAIN_AT": "0", "SNAPSHOT_AT": "1", "PICTURES": "false", "LOG_LEVEL": "warning"}
        settings |= {"DATABASE_URL": postgres.new_database()} if postgres is not None else {}
        with Server(Path(scratch) / "data", WORKERS, **settings) as server:
            counting = Counting(server)
            items = [counting.item(item_id, 0) for item_id in counting.counts]
            with Client(server.url) as api:
                counting.seq = api.ingest("c", items)["seq"]
                trained(api, "c", {"codec": {"bytes": 8}, "training": {"epochs": 2}})
            while min(Memory.of([pid]).rss for pid in server.answering()) < LIBRARIES:
                searched(server)  # until both workers have the codec
            for rest in range(round(given.seconds / REST_SECONDS)):
                stop = Event()
                with ThreadPoolExecutor(WRITERS + READERS) as pool:
                    done = [pool.submit(counting.write, [rest, number], stop) for number in range(WRITERS)]
                    done += [pool.submit(counting.read, [rest, WRITERS + number], stop) for number in range(READERS)]
                    time.sleep(REST_SECONDS)
                    stop.set()
                for one in done:
                    one.result()
                counting.rest()
        if postgres is not None:
            postgres.stop()
    print(f"| database | {' | '.join(COLUMNS)} |\n" + "|---" * (1 + len(COLUMNS)) + "|")
    print(f"| {given.database} | {' | '.join(f'{counting.seen[column]:,}' for column in COLUMNS)} |")
    sys.exit(int(any(counting.seen[what] for what in WRONG)))


if __name__ == "__main__":
    main()
