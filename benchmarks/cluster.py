"""A build and a service over three Ray nodes on one machine, and what the loss of one costs.

    python -m benchmarks.cluster [--vectors F.npy] [--json F]        (as root; Linux; the extra `ray`)

Each node is a network namespace with an address and CPUs of its own; nodes share the disk. Killing one is SIGKILL to
all its processes at once. Two cores do the work of three nodes here: seconds tell what a loss costs, not what nodes
gain.

- build: residual codes of 8 bytes by a codec that is there. Undisturbed; with one node killed after a third of the
  shards; and in one process without Ray, whose shards both must "equal".
- serve: three shards of one replica, then of two, and four clients. After three seconds a node is killed, ten seconds
  later it is started again. Told are answers, errors, partial answers, the longest answer, and the seconds from the
  loss to the first partial answer and from the restart to the first whole one.
- swap: a new build of the folder takes over; "mixed" are answers with items of both builds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.nodes import NODES, PORT, address, kill, network, start, within
from benchmarks.training_memory import write

HTTP = 8017
SHARD_ROWS = 2_000


def codewell(*arguments: str | Path) -> subprocess.Popen[str]:
    command = within(1, sys.executable, "-m", "service.cli", *map(str, arguments))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CODEWELL_AUTH": "off", "CODEWELL_LOG_LEVEL": "warning"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def built(source: str | Path, folder: Path, *options: str | Path, watch: Callable[[], None] | None = None) -> float:
    """Seconds; `watch` runs meanwhile."""
    began = time.monotonic()
    building = codewell("build", source, "--output", folder, "--shard-rows", str(SHARD_ROWS), *options)
    if watch is not None:
        watch()
    said, _ = building.communicate()
    assert building.returncode == 0, said[-2000:]
    return time.monotonic() - began


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "shards").glob("*.safetensors")}


def build(home: Path, source: Path, rows: int) -> Iterator[dict[str, Any]]:
    first = home / "first.npy"
    np.save(first, np.load(source, mmap_mode="r")[:20_000])
    built(first, home / "codec", "--codec", "residual", "--bytes", "8", "--minutes", "2")
    taken = ("--codec-from", home / "codec")
    cluster = ("--ray", f"{address(1)}:{PORT}")

    def lose() -> None:
        while not (there := home / "lost" / "shards").exists() or len(list(there.iterdir())) < rows // SHARD_ROWS // 3:
            time.sleep(0.02)
        kill(NODES)

    undisturbed = built(source, home / "undisturbed", *taken, *cluster)
    lost = built(source, home / "lost", *taken, *cluster, watch=lose)
    alone = built(source, home / "alone", *taken, "--workers", "1")
    same = shards(home / "alone") == shards(home / "undisturbed") == shards(home / "lost")
    for name, seconds in (("undisturbed", undisturbed), ("a node killed", lost), ("one process, no Ray", alone)):
        yield {"build": name, "seconds": round(seconds, 1), "shards": rows // SHARD_ROWS, "equal": same}


class Load:
    """Four clients that ask until they are told to end."""

    def __init__(self, queries: Any) -> None:
        self.answers: list[tuple[float, float, Any]] = []
        """When each ended, its seconds, and what was answered; a text where it was an error."""
        self.done = threading.Event()
        self.clients = [threading.Thread(target=self.ask, args=(queries[one::4],)) for one in range(4)]
        for client in self.clients:
            client.start()

    def ask(self, queries: Any) -> None:
        """One client."""
        with httpx.Client(base_url=f"http://{address(1)}:{HTTP}", timeout=60) as client:
            at = 0
            while not self.done.is_set():
                began, at = time.monotonic(), (at + 1) % len(queries)
                try:
                    told = client.post("/search", json={"vector": queries[at].tolist(), "k": 10})
                    answer = told.json() if told.status_code == 200 else told.text
                except httpx.HTTPError as error:
                    answer = repr(error)
                self.answers.append((time.monotonic(), time.monotonic() - began, answer))

    def end(self) -> None:
        """Waits until all have ended."""
        self.done.set()
        for client in self.clients:
            client.join()

    def first(self, after: float, partial: bool) -> float | None:
        """Seconds from `after` to the first such answer."""
        found = [
            at for at, _, one in self.answers if at > after and not isinstance(one, str) and one["partial"] is partial
        ]
        return round(min(found) - after, 2) if found else None

    def figures(self) -> dict[str, Any]:
        """Counts and times of all answers."""
        told = [one for _, _, one in self.answers]
        return {
            "answers": len(told),
            "errors": sum(isinstance(one, str) for one in told),
            "partial": sum(not isinstance(one, str) and one["partial"] for one in told),
            "longest s": round(max(seconds for _, seconds, _ in self.answers), 2),
            "p50 ms": round(1000 * float(np.median([seconds for _, seconds, _ in self.answers])), 1),
        }


@contextmanager
def served(folder: Path, replicas: int) -> Iterator[None]:
    where = ("--host", address(1), "--port", str(HTTP), "--ray", f"{address(1)}:{PORT}")
    serving = codewell("serve", "--generation", folder, *where, "--shards", str(NODES), "--replicas", str(replicas))
    try:
        while serving.poll() is None:
            try:
                httpx.get(f"http://{address(1)}:{HTTP}/readyz", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        assert serving.poll() is None, serving.stdout and serving.stdout.read()
        yield
    finally:
        serving.terminate()
        serving.wait()


def lost(folder: Path, queries: Any, replicas: int) -> dict[str, Any]:
    """A node is killed under load, and started again."""
    with served(folder, replicas):
        load = Load(queries)
        time.sleep(3)
        killed = time.monotonic()
        kill(NODES)
        time.sleep(10)
        start(NODES, cpus=replicas)
        began = time.monotonic()
        end = began + 60
        while time.monotonic() < end and load.first(began, partial=False) is None:
            time.sleep(0.1)
        time.sleep(3)
        load.end()
    found = {"serve": f"a node killed, {NODES} shards of {replicas}", **load.figures()}
    return found | {
        "first partial s": load.first(killed, partial=True),
        "whole again s": load.first(began, partial=False),
    }


def swapped(folder: Path, inputs: Path, queries: Any, rows: int) -> dict[str, Any]:
    """A new build of other items, whose ids follow, takes over under load."""
    with served(folder, 1):
        load = Load(queries)
        time.sleep(3)
        old = inputs / "a.npy"
        vectors = np.load(old)
        old.unlink()
        np.save(inputs / "b.npy", np.vstack([np.zeros_like(vectors), vectors]))  # zeros are rejected
        building = codewell("build", f"{inputs}/*.npy", "--output", folder)
        assert building.wait() == 3
        end = time.monotonic() + 60
        while time.monotonic() < end and not any(of_new(one, rows) for _, _, one in load.answers[-4:]):
            time.sleep(0.1)
        time.sleep(3)
        load.end()
    of_both = [one for _, _, one in load.answers if not isinstance(one, str) and len(builds(one, rows)) > 1]
    new = sum(of_new(one, rows) for _, _, one in load.answers)
    return {"serve": "a new build", **load.figures(), "of the new build": new, "mixed": len(of_both)}


def builds(answer: Any, rows: int) -> set[int]:
    return {int(hit["id"]) // rows for hit in answer["hits"]}


def of_new(answer: Any, rows: int) -> bool:
    return not isinstance(answer, str) and builds(answer, rows) == {1}


def rows_of(home: Path, given: Path | None) -> Iterator[dict[str, Any]]:
    source = home / "v.npy"
    if given is None:
        write(source, 100_000, 384)
    else:
        np.save(source, np.load(given, mmap_mode="r")[:100_000].astype(np.float32))
    vectors = np.load(source, mmap_mode="r")
    queries = vectors[:: len(vectors) // 400] + np.float32(0.01)
    with network():
        for node in range(1, NODES + 1):
            start(node, cpus=1)
        yield from build(home, source, len(vectors))
        start(NODES, cpus=1)
        yield lost(home / "alone", queries, 1)
    with network():
        for node in range(1, NODES + 1):
            start(node, cpus=2)
        yield lost(home / "alone", queries, 2)
    with network():  # what was served stays on the cluster, and a new build needs room beside the old one
        for node in range(1, NODES + 1):
            start(node, cpus=2)
        inputs = home / "in"
        inputs.mkdir()
        few = vectors[: len(vectors) // 5]
        np.save(inputs / "a.npy", few)
        built(f"{inputs}/*.npy", home / "words", "--codec", "dense", "--epochs", "2")
        yield swapped(home / "words", inputs, few[::50], len(few))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, help="A matrix; the first 100,000 rows are taken. Made ones if none.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for row in rows_of(Path(folder), given.vectors):
            rows.append(row)
            print(" | ".join(f"{name}: {value}" for name, value in row.items()), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
