"""The short forms of the proofs that take long: each benchmark that looks for broken promises, for some seconds."""

import subprocess
import sys

import pytest


def proven(name: str, *options: str) -> str:
    """What it prints; it must have found nothing."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def can_trace() -> bool:
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_trace(), reason="needs strace, and the right to trace")
@pytest.mark.parametrize("database", [(), ("--postgresql",)], ids=["sqlite", "postgresql"])
def test_what_is_acknowledged_was_synced(database: tuple[str, ...]) -> None:
    told = proven("synced", "--requests", "10", *database)
    assert "10 writing requests of 10 seen to be answered with 200" in told
    assert "10 answers sent with every one of them synced, 0 not" in told


def rows(told: str) -> list[dict[str, str]]:
    """Of the first table, by its head."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in told.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_processes_that_die_under_load_lose_nothing() -> None:
    *kinds, every = rows(proven("faults", "--rounds", "4"))
    assert [row["fault"] for row in kinds] == ["server", "worker", "snapshot", "commit"]
    assert all(int(row["acknowledged"].replace(",", "")) > 0 for row in kinds)
    assert (every["lost"], every["errors"]) == ("0", "0")


def test_writers_and_readers_together_agree() -> None:
    (row,) = rows(proven("together", "--seconds", "6"))
    assert min(int(row[what].replace(",", "")) for what in ("writes", "searches", "questions")) > 10
    assert {row[what] for what in ("errors", "stale", "lost", "unequal")} == {"0"}
