"""The short forms of the proofs that take long: each benchmark that looks for broken promises, for some seconds."""

import signal
import subprocess
import sys

import pytest

SECONDS = 150


def proven(name: str, *options: str) -> str:
    """What it prints; it must have found nothing."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            told, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # so that it ends what it has started
            raise
    assert process.returncode == 0, told + errors
    return told


def rows(told: str) -> list[dict[str, str]]:
    """Of the first table, by its head."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in told.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


@pytest.fixture
def _strace() -> None:
    try:
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs strace, and the right to trace")


@pytest.mark.usefixtures("_strace")
@pytest.mark.parametrize("database", [(), ("--postgresql",)], ids=["sqlite", "postgresql"])
def test_what_is_acknowledged_was_synced(database: tuple[str, ...]) -> None:
    told = proven("synced", "--requests", "10", *database)
    assert "10 writing requests of 10 seen to be answered with 200" in told
    assert "10 answers sent with what was written for them synced, 0 not" in told


def test_processes_that_die_under_load_lose_nothing() -> None:
    told = proven("faults", "--rounds", "2", "--only", "server,commit")
    *kinds, every = rows(told)
    assert [(row["fault"], row["died there"]) for row in kinds] == [("server", "0"), ("commit", "1")]
    assert int(every["acknowledged"].replace(",", "")) > 0
    assert (every["lost"], every["not found"], every["errors"]) == ("0", "0", "0")
    assert "`codewell verify`: no differences" in told


def test_writers_and_readers_together_agree() -> None:
    (row,) = rows(proven("together", "--seconds", "6"))
    assert min(int(row[what].replace(",", "")) for what in ("writes", "searches", "questions")) > 0
    assert {row[what] for what in ("errors", "stale", "lost", "unequal")} == {"0"}
