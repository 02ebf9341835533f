"""What a batch build takes, by vectors and workers: seconds of each step, bytes, memory; and builds that are killed.

    python -m benchmarks.build_cost F.npy [--rows 100000 500000] [--workers 1 2] [--bytes 16] [--kills 20] [--json F]

The vectors are made of those in F.npy: each is one of them, with up to half of another mixed in and noise of a fifth of
its length, at length 1, as float16 in files of 500,000. They cost what real ones cost; what codes keep of them says
nothing. One residual codec is trained on the first 20,000 and taken by all builds (`--codec-from`), whose workers have
one thread each. Steps are timed by what `codewell build` reports; "rest" is starting, the index and the manifest.

A kill is SIGKILL to all processes of a build of 100,000 at a random moment; the same command then goes on until it
ends, and its files must be those of an undisturbed build, the manifest's times of change apart.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FILE_ROWS, BLOCK = 500_000, 50_000
KILLED_ROWS = 100_000
STEPS = ("reading", "sampling", "training", "encoding", "measuring")


def make(real: Path, rows: int, folder: Path) -> None:
    """Writes `rows` vectors made of real ones."""
    base = np.load(real, mmap_mode="r").astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        rng, size = np.random.default_rng(number), min(FILE_ROWS, rows - start)
        file = np.lib.format.open_memmap(folder / f"{number:03}.npy", "w+", np.float16, (size, base.shape[1]))
        for begin in range(0, size, BLOCK):
            part = file[begin : begin + BLOCK]
            one, other = rng.integers(0, len(base), (2, len(part)))
            share = rng.random((len(part), 1), np.float32) / 2
            noise = rng.standard_normal(part.shape, np.float32) * np.float32(0.2 / np.sqrt(base.shape[1]))
            mixed = base[one] * (1 - share) + base[other] * share + noise
            part[:] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        file.flush()


def started(inputs: Path, output: Path, *options: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.cli", "build", f"{inputs}/*.npy", "--output", output, *options]
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if "--codec-from" in options else {})
    return subprocess.Popen(
        [*map(str, command)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def built(inputs: Path, output: Path, *options: str | Path) -> dict[str, Any]:
    """Seconds of each step, and what the build says of itself."""
    began = time.monotonic()
    process = started(inputs, output, *options)
    said, steps = process.communicate()
    assert process.returncode == 0, steps[-2000:]
    seconds = dict.fromkeys(STEPS, 0.0)
    for line in steps.splitlines():
        step = json.loads(line)
        if step["rate"]:
            seconds[step["message"].partition(",")[0]] = step["done"] / step["rate"]
    whole = time.monotonic() - began
    told: dict[str, Any] = json.loads(said)
    return told | {"steps": seconds, "whole": whole, "rest": whole - sum(seconds.values())}


def row(told: dict[str, Any], workers: int) -> dict[str, Any]:
    steps, items = told["steps"], told["items"]
    return {
        "vectors": items,
        "workers": workers,
        **{f"{name} s": round(steps[name], 1) for name in ("reading", "encoding", "measuring")},
        "rest s": round(told["rest"], 1),
        "encoded/s": round(items / steps["encoding"]),
        "ms/vector": round(1000 * told["whole"] / items, 3),
        "bytes/vector": round(told["bytes"] / items, 1),
        "peak MB": told["peak_mb"],
        "worker MB": told["worker_peak_mb"],
    }


def content(folder: Path) -> dict[str, Any]:
    """Every file, with the times of change left out of the manifest."""
    files: dict[str, Any] = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    told = {name: path.read_bytes() for name, path in files.items() if name != "manifest.json"}
    return told | {"manifest": json.loads((folder / "manifest.json").read_text())["files"]}


def killed(inputs: Path, home: Path, taken: tuple[str | Path, ...], kills: int) -> dict[str, Any]:
    """Builds killed at random moments of an undisturbed one's time, each gone on with until it ends."""
    began = time.monotonic()
    built(inputs, home / "undisturbed", *taken)
    whole, same, cut = time.monotonic() - began, 0, 0
    rng, expected = np.random.default_rng(0), content(home / "undisturbed")
    for number in range(kills):
        process = started(inputs, home / f"killed-{number}", *taken)
        time.sleep(float(rng.uniform(0, whole)))
        if process.poll() is None:
            cut += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        built(inputs, home / f"killed-{number}", *taken)
        same += content(home / f"killed-{number}") == expected
    return {
        "kills": kills,
        "under way when killed": cut,
        "ended as undisturbed": same,
        "undisturbed s": round(whole, 1),
    }


def rows_of(home: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    make(given.vectors, 20_000, home / "first")
    codec = ("--codec", "residual", "--bytes", str(given.bytes))
    built(home / "first", home / "codec", *codec)
    taken = ("--codec-from", home / "codec", "--memory-gb", str(given.memory_gb))
    for rows in given.rows:
        inputs = home / f"in-{rows}"
        make(given.vectors, rows, inputs)
        for workers in given.workers:
            yield row(built(inputs, home / f"out-{rows}-{workers}", *taken, "--workers", str(workers)), workers)
    if given.kills:
        make(given.vectors, KILLED_ROWS, home / "killed-in")
        (home / "killed").mkdir()
        yield killed(home / "killed-in", home / "killed", (*taken, "--shard-rows", "10000"), given.kills)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path, help="An .npy matrix of real vectors.")
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 500_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--bytes", type=int, default=16)
    parser.add_argument("--memory-gb", type=float, default=4.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for one in rows_of(Path(folder), given):
            rows.append(one)
            print(" | ".join(f"{name}: {value}" for name, value in one.items()), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
