"""Kills servers, workers and databases at random moments under load, and looks for what was acknowledged and is gone.

    python -m benchmarks.faults [--rounds 100] [--database sqlite | postgresql | URL] [--disk FOLDER]
        [--only server,snapshot] [--seed 0]

A real `codewell serve` with two workers, four writers (batches, changes of metadata, deletions), two readers, and one
training after another; snapshots are written at every look. Each round lets them go on for up to 1.5 seconds, then does
one of these, in turns:

    server      SIGKILL to the server with its workers and jobs; it is started again
    worker      SIGKILL to one worker; the supervisor replaces it, requests go on at the other
    snapshot    as `server`, and a byte of a snapshot of codes is changed before the start
    commit, rename, swap
                one process of the server, be it a worker or a job, is killed by itself right before or right after it
                commits, renames what it wrote beside, or swaps to another codec (benchmarks/dying.py); then the server
    database    SIGKILL to PostgreSQL and its children, started again after a moment (`--database postgresql` only)
    both        SIGKILL to server and PostgreSQL
    full disk   the disk is filled for half a second (`--disk` only: a folder on a small file system that may be filled)

After each, every item of every writer is read by id and found by search, and compared with what its writer was last
promised; a request that got no answer must have been done whole or not at all. At the end `codewell verify` compares
the tables with each other. `--database postgresql` runs one of its own (extra `dev`). Exit code 1 where a promise was
broken. Everything is in a temporary folder.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import numpy as np

from benchmarks.process import Server
from benchmarks.promises import COLLECTION, DIM, Writer, broken, read, train
from tests.postgres import Postgres

WRITERS, READERS, WORKERS = 4, 2, 2
LONGEST_SECONDS = 1.5
AWAY_SECONDS = 0.3
FULL_SECONDS = 0.5
LATEST = {"commit": 40, "rename": 6, "swap": 1}
"""Passings of a point among which one is drawn: so many come within seconds, in some process."""
LONGEST_WAIT = 20
"""Seconds for a process to come to its point."""
WRONG = ("lost", "other content", "other vector", "torn", "came back", "unknown", "not found")
COLUMNS = ("rounds", "died there", "acknowledged", "items", "searches", "unanswered", "503", "507", "errors", *WRONG)


class DyingServer(Server):
    """Of which one process kills itself where DYING says."""

    program = "benchmarks.dying"


class Trial:
    """One service over one database, and the faults that it is put through."""

    def __init__(self, folder: Path, url: str | None, postgres: Postgres | None, disk: Path | None, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._folder = disk or folder
        self._disk = disk
        self._settings = {"TRAIN_AT": "0", "SNAPSHOT_AT": "1", "LOG_LEVEL": "warning"}
        self._settings |= {"DATABASE_URL": url} if url is not None else {}
        self._postgres = postgres
        self.writers = [Writer(number) for number in range(WRITERS)]
        self.seen: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def __enter__(self) -> "Trial":
        self.server = self._started()
        self.server.post("/collections", {"name": COLLECTION, "dimension": DIM})
        with self._load(Counter()):  # until there are codes, which everything after is searched by
            while self.server.get(f"/collections/{COLLECTION}")["generation"] is None:
                time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    @property
    def faults(self) -> list[str]:
        """Those that can be done here."""
        with_postgres = ["database", "both"] if self._postgres is not None else []
        with_disk = ["full disk"] if self._disk is not None else []
        return ["server", "worker", "snapshot", *LATEST, *with_postgres, *with_disk]

    def round(self, fault: str) -> Counter[str]:
        """Load, the fault in the midst of it, and what is wrong afterwards."""
        before = sum((writer.seen for writer in self.writers), Counter[str]())
        reads: Counter[str] = Counter()
        once = self._folder / f"died-{sum(seen['rounds'] for seen in self.seen.values())}"
        if fault in LATEST:
            self.server.stop()
            at = f"{fault}:{self._rng.choice(('before', 'after'))}:{self._rng.integers(1, LATEST[fault] + 1)}"
            self.server = self._started({"DYING": at, "DYING_ONCE": str(once)})
        with self._load(reads):
            time.sleep(float(self._rng.uniform(0.05, LONGEST_SECONDS)))
            self._do(fault, once)
        reads["died there"] = int(once.exists())
        if self.server.process.poll() is not None:
            if fault == "snapshot":
                self._damage()
            self.server = self._started()
        self.server.wait()
        wrong = broken(self.server, self.writers)
        after = sum((writer.seen for writer in self.writers), Counter[str]())
        self.seen[fault] += (after - before) + reads + wrong + Counter(rounds=1)
        return wrong

    def verified(self) -> str:
        """The last line of `codewell verify` beside the running server."""
        command = [sys.executable, "-m", "service.cli", "verify", "--data-dir", str(self._folder)]
        environment = os.environ | {f"CODEWELL_{name}": value for name, value in self._settings.items()}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        ).stdout.splitlines()[-1]

    def _started(self, dying: Mapping[str, str] | None = None) -> Server:
        os.environ.update(dying or {})  # which a server hands on to those that it starts
        server = (Server if dying is None else DyingServer)(self._folder, WORKERS, **self._settings)
        for name in dying or {}:
            del os.environ[name]
        server.wait()
        return server

    @contextmanager
    def _load(self, reads: Counter[str]) -> Iterator[None]:
        stop, url = Event(), self.server.url
        threads = [Thread(target=writer.write, args=(url, stop)) for writer in self.writers]
        threads += [Thread(target=read, args=(url, number, stop, reads)) for number in range(READERS)]
        threads.append(Thread(target=train, args=(url, stop)))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _do(self, fault: str, once: Path) -> None:
        end = time.monotonic() + LONGEST_WAIT
        while fault in LATEST and not once.exists() and time.monotonic() < end:
            time.sleep(0.02)
        if fault == "worker":
            workers = self.server.answering()
            if workers:
                os.kill(int(self._rng.choice(workers)), signal.SIGKILL)
            time.sleep(float(self._rng.uniform(0, LONGEST_SECONDS)))
        elif fault == "full disk" and self._disk is not None:
            with self._filled(self._disk):
                time.sleep(FULL_SECONDS)
            time.sleep(FULL_SECONDS)
        else:
            if fault != "database":
                self.server.kill()
            if fault in ("database", "both") and self._postgres is not None:
                self._postgres.kill()
                time.sleep(AWAY_SECONDS)
                self._postgres.start()
            if fault == "database":
                time.sleep(float(self._rng.uniform(0, LONGEST_SECONDS)))

    @contextmanager
    def _filled(self, disk: Path) -> Iterator[None]:
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4_096))
        try:
            yield
        finally:
            ballast.unlink()

    def _damage(self) -> None:
        files = sorted(self._folder.glob("snapshots*/*/*-*/*"))
        files = [path for path in files if path.stat().st_size and not path.parent.suffix]
        if files:
            path = files[int(self._rng.integers(len(files)))]
            content = bytearray(path.read_bytes())
            content[int(self._rng.integers(len(content)))] ^= 1 << int(self._rng.integers(8))
            path.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--disk", type=Path)
    parser.add_argument("--only", default="", help="some of the faults, with commas between them")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        postgres = Postgres(folder / "postgres") if given.database == "postgresql" else None
        url = None if given.database == "sqlite" else given.database
        url = postgres.new_database() if postgres is not None else url
        began = time.monotonic()
        with Trial(folder / "data", url, postgres, given.disk, given.seed) as trial:
            faults = given.only.split(",") if given.only else trial.faults
            if unknown := set(faults) - set(trial.faults):
                parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(trial.faults)}")
            for number in range(given.rounds):
                fault = faults[number % len(faults)]
                wrong = trial.round(fault)
                told = ", ".join(f"{count} {what}" for what, count in wrong.items()) or "nothing lost"
                line = f"{time.monotonic() - began:6.0f} s  round {number + 1}, {fault}: {told}"
                print(line, file=sys.stderr, flush=True)
            verified = trial.verified()
        if postgres is not None:
            postgres.stop()
    print(f"| fault | {' | '.join(COLUMNS)} |\n" + "|---" * (1 + len(COLUMNS)) + "|")
    rows = trial.seen | {"all": sum(trial.seen.values(), Counter[str]())}
    for fault, seen in rows.items():
        print(f"| {fault} | {' | '.join(f'{seen[column]:,}' for column in COLUMNS)} |")
    print(f"\n`codewell verify`: {verified}")
    sys.exit(int(any(rows["all"][what] for what in WRONG) or verified != "no differences"))


if __name__ == "__main__":
    main()
