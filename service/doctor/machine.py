"""What can be wrong with the machine and the data folder, one check each. Knows no SQL and no HTTP."""

import os
import resource
import shutil
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from service.doctor.finding import GB, Finding, State
from service.settings import Settings

SCARCE_DISK, LITTLE_DISK = 200 * 1024**2, 2 * GB
"""Bytes free below which a check fails, or warns."""
SLOW_FSYNC_MS = 20
"""A commit waits for two or three of these."""
FSYNCS = 10
FEWEST_FILES = 1_024


def packages(settings: Settings) -> Iterator[Finding]:
    """Whether what everything hangs on can be imported, and in which version."""
    told = []
    for distribution, module in (("torch", "torch"), ("faiss-cpu", "faiss"), ("tantivy", "tantivy")):
        try:
            import_module(module)
            told.append(f"{distribution} {version(distribution)}")
        except (ImportError, OSError) as error:
            yield Finding("packages", State.FAIL, f"{module}: {error}", f"install it again: pip install {distribution}")
    others = [f"{name} {version(name)}" for name in ("codewell", "numpy", "sqlalchemy", "fastapi")]
    yield Finding("packages", State.OK, ", ".join(others + told))
    if settings.encoder == "sentence-transformers" and find_spec("sentence_transformers") is None:
        yield Finding(
            "packages",
            State.WARN,
            "texts cannot be encoded: sentence-transformers is not installed",
            "pip install 'codewell[text]', or set CODEWELL_ENCODER to tfidf, openai or none",
        )


def variables(settings: Settings) -> Iterator[Finding]:
    """Whether a setting is misspelt."""
    unknown = settings.unknown()
    if unknown:
        yield Finding("settings", State.WARN, f"there is no setting {', '.join(unknown)}", "README.md has all of them")
    else:
        yield Finding("settings", State.OK, "every CODEWELL_ variable is one")


def disk(settings: Settings) -> Iterator[Finding]:
    """Room in the data folder, and how fast it makes things durable."""
    folder = settings.data_dir
    if not folder.is_dir():
        yield Finding("disk", State.OK, f"{folder} is not there yet; the first start makes it")
        return
    free = shutil.disk_usage(folder).free
    state = State.FAIL if free < SCARCE_DISK else State.WARN if free < LITTLE_DISK else State.OK
    advice = None if state is State.OK else "make room: a full disk refuses writes (507), and a training needs some too"
    yield Finding("disk", state, f"{free / GB:.1f} GB are free in {folder}", advice)
    try:
        milliseconds = _fsync_ms(folder)
    except OSError as error:
        yield Finding(
            "disk", State.FAIL, f"{folder} cannot be written: {error.strerror}", "give it to the server's user"
        )
        return
    slow = milliseconds > SLOW_FSYNC_MS
    advice = "every write waits for it: use a local disk, not a network one" if slow else None
    yield Finding("disk", State.WARN if slow else State.OK, f"an fsync there takes {milliseconds:.1f} ms", advice)


def _fsync_ms(folder: Path) -> float:
    """The median of a few."""
    took = []
    file = folder / f".doctor-{os.getpid()}"
    try:
        with file.open("wb", buffering=0) as out:
            for _ in range(FSYNCS):
                out.write(bytes(4096))
                began = time.perf_counter()
                os.fsync(out.fileno())
                took.append(1000 * (time.perf_counter() - began))
    finally:
        file.unlink(missing_ok=True)
    return sorted(took)[FSYNCS // 2]


def threads(settings: Settings) -> Iterator[Finding]:
    """Threads and workers against the cores that there are."""
    cores = available_cores()
    asked = {
        "CODEWELL_THREADS": settings.threads,
        "CODEWELL_WORKERS": settings.workers,
        "CODEWELL_CONCURRENT_SEARCHES": settings.concurrent_searches,
        "OMP_NUM_THREADS": int(given) if (given := os.environ.get("OMP_NUM_THREADS", "")).isdigit() else 0,
    }
    above = [f"{name} is {number}" for name, number in asked.items() if number > cores]
    quota = "" if cores == len(os.sched_getaffinity(0)) else ", by the container's quota"
    if above:
        advice = "more threads than cores wait for each other: lower them, or leave them out"
        yield Finding("threads", State.WARN, f"{'; '.join(above)}, and there are {cores} cores{quota}", advice)
    elif quota and settings.threads == 0:
        advice = f"set CODEWELL_THREADS={cores}: the server sees the machine's cores, not the quota"
        yield Finding("threads", State.WARN, f"{cores} cores{quota}, of {len(os.sched_getaffinity(0))}", advice)
    else:
        yield Finding(
            "threads", State.OK, f"{cores} cores, {settings.workers} workers, {settings.cores} threads in all"
        )


def available_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that the process may run on, or fewer where its control group has a quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group, or "max"
        return cores


def available_memory(root: Path = Path("/sys/fs/cgroup"), machine: Path = Path("/proc/meminfo")) -> int:
    """Bytes that can still be had, of the machine's or of the control group's limit."""
    lines = (line.split() for line in machine.read_text().splitlines())
    free = next(int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:")
    try:
        return min(free, int((root / "memory.max").read_text()) - int((root / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


def files(_: Settings) -> Iterator[Finding]:
    """How many files and connections a process may hold."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most < FEWEST_FILES:
        yield Finding("files", State.WARN, f"a process may open {most} files", "raise it to 4096: ulimit -n 4096")
    else:
        yield Finding("files", State.OK, f"a process may open {most} files")
