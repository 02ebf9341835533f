"""How long searches take while a job runs, beside how long they take without one: slices in turns over one server.

    python -m benchmarks.job_latency [--rounds 5] [--items 20000] [--rate 20] [--epochs 5]

One client, which takes next to no CPU and sends each request in one piece, asks for ten of a collection's items, codes
of 64 bytes of 384 numbers and originals to rescore, so many times a second. A round is a training of the collection,
watched from its request until it is published, and before it as many searches without one. The training runs in a
process of its own at low priority, with as many threads as there are cores. A ratio is that of a round; the last row
has medians over the rounds.
"""

import argparse
import json
import operator
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.closed_loop import Line, request
from benchmarks.process import Server
from benchmarks.server import packed
from service.client import Client

DIM, BATCH = 384, 1_000
FEWEST = 200
"""Searches of a slice, so that there is a hundredth."""
COLUMNS = ("round", "searches", "job s", "idle p50 ms", "p99", "with a job p50 ms", "p99", "ratio p50", "p99")


class Round(NamedTuple):
    """Milliseconds of searches without and with a job, each median and 99th percentile."""

    idle: tuple[float, float]
    busy: tuple[float, float]

    def cells(self) -> list[str]:
        """As a table has them, with the ratios."""
        ratios = [busy / idle for idle, busy in zip(self.idle, self.busy, strict=True)]
        return [f"{value:.1f}" for value in (*self.idle, *self.busy)] + [f"{ratio:.2f}" for ratio in ratios]


def asked(line: Line, questions: Sequence[bytes], rate: float, enough: Callable[[int], bool]) -> list[float]:
    """Milliseconds of each search, `rate` of them a second, until there are enough."""
    taken: list[float] = []
    while not enough(len(taken)):
        began = time.perf_counter()
        answer = line.ask(questions[len(taken) % len(questions)])
        taken.append(1000 * (time.perf_counter() - began))
        assert len(json.loads(answer)["hits"]) == 10, answer
        time.sleep(max(0.0, 1 / rate - taken[-1] / 1000))
    return taken


def watched(api: Client, line: Line, questions: Sequence[bytes], rate: float, epochs: int) -> tuple[list[float], float]:
    """Milliseconds of the searches while a training runs, and the seconds that it took."""
    job = api.train("c", {"training": {"epochs": epochs}})
    began = looked = time.monotonic()

    def over(_: int) -> bool:
        nonlocal job, looked
        if time.monotonic() - looked > 1:
            looked, job = time.monotonic(), api.job(job["id"])
        return job["state"] not in ("queued", "running")

    taken = asked(line, questions, rate, over)
    assert job["state"] == "succeeded", job
    return taken, time.monotonic() - began


def percentiles(taken: list[float]) -> tuple[float, float]:
    median, highest = np.percentile(taken, (50, 99))
    return float(median), float(highest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((DIM // 4, DIM))
    vectors, asking = (
        (rng.standard_normal((count, DIM // 4)) @ basis).astype(np.float32) for count in (given.items, FEWEST)
    )
    with (
        tempfile.TemporaryDirectory(prefix="job-latency-", ignore_cleanup_errors=True) as folder,
        Server(Path(folder), 1, TRAIN_AT="0", PICTURES="false", LOG_LEVEL="error") as server,
        Client(server.url) as api,
        closing(Line(int(server.url.rpartition(":")[2]))) as line,
    ):
        questions = [
            request("/search", json.dumps({"collection": "c", "vector": packed(vector), "k": 10}).encode())
            for vector in asking
        ]
        for start in range(0, given.items, BATCH):
            rows = range(start, min(given.items, start + BATCH))
            api.ingest("c", [{"id": str(row), "vector": packed(vectors[row])} for row in rows])
        searches = len(watched(api, line, questions, given.rate, given.epochs)[0])  # until there are codes
        print(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|", flush=True)
        rounds = []
        for number in range(1, given.rounds + 1):
            idle = asked(line, questions, given.rate, partial(operator.le, max(FEWEST, searches)))
            busy, seconds = watched(api, line, questions, given.rate, given.epochs)
            searches = len(busy)
            rounds.append(Round(percentiles(idle), percentiles(busy)))
            print(f"| {number} | {searches} | {seconds:.0f} | {' | '.join(rounds[-1].cells())} |", flush=True)
    columns = zip(*(one.cells() for one in rounds), strict=True)
    medians = [f"{statistics.median(map(float, column)):.2f}" for column in columns]
    print(f"| median | | | {' | '.join(medians)} |")


if __name__ == "__main__":
    main()
