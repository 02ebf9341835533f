"""Peak memory of a training from a memory-mapped array, at one size and at eight times it.

    python -m benchmarks.training_memory [--rows 100000] [--times 1 8] [--dim 384] [--sample 50000] [--codec residual]

Each size is trained in a process of its own, one epoch of the default codec, from an .npy file that is written to a
temporary folder first. Counted is anonymous memory (RssAnon of Linux): pages of the mapped file are cache, which the
system takes back when it needs it. "before" is what the process holds after a first training of 1,000 vectors. What a
training does hold is the sample that its start looks at and the vectors held out, a tenth as many, with their hidden
layers: 50,000 and 5,000 by default, as in any training of 100,000 vectors and more. A residual codec, here of 16 bytes,
holds all that it is trained on, up to 200,000 vectors: `--memory-gb` of a build takes as many as fit
(`models.vectors_within`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import numpy as np

from models import Metric, ResidualConfig

BLOCK = 10_000
LOOK_SECONDS = 0.01
MB = 1e6


class Peak(NamedTuple):
    """Anonymous memory of one training, in bytes."""

    before: int
    most: int
    seconds: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--times", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--dim", type=int, default=384)
    arguments.add_argument("--sample", type=int, default=50_000)
    arguments.add_argument("--codec", choices=("dense", "residual"), default="dense")
    arguments.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.train is not None:
        print(json.dumps(trained(given.train, given.sample, given.codec)))
        return
    print("| vectors | file MB | before MB | peak MB | peak - before MB | seconds |\n" + "|---" * 6 + "|")
    for times in given.times:
        rows = given.rows * times
        peak = measured(rows, given.dim, given.sample, given.codec)
        held = f"{peak.before / MB:.0f} | {peak.most / MB:.0f} | {(peak.most - peak.before) / MB:.0f}"
        print(f"| {rows:,} | {rows * given.dim * 4 / MB:,.0f} | {held} | {peak.seconds:.0f} |", flush=True)


def measured(rows: int, dim: int, sample: int, codec: str = "dense") -> Peak:
    """Writes a file of that many vectors and trains on it in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        write(path, rows, dim)
        command = [sys.executable, "-m", "benchmarks.training_memory", "--train", str(path), "--sample", str(sample)]
        ran = subprocess.run([*command, "--codec", codec], capture_output=True, text=True, check=True)
    return Peak(*json.loads(ran.stdout))


def write(path: Path, rows: int, dim: int) -> None:
    """Vectors around 1,000 centres in a subspace of a quarter of the dimensions, block by block."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((max(2, dim // 4), dim), np.float32)
    centres = rng.standard_normal((1_000, len(basis)), np.float32)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dim))
    for start in range(0, rows, BLOCK):
        part = file[start : start + BLOCK]
        latent = centres[rng.integers(0, len(centres), len(part))]
        part[:] = (latent + 0.4 * rng.standard_normal(latent.shape, np.float32)) @ basis
    file.flush()


def trained(path: Path, sample: int, codec: str) -> Peak:
    """One epoch of the default codec, or a training of the residual one, on the mapped file, in this process."""
    import torch

    from models import DenseConfig, Metric, TrainingConfig, fit

    torch.set_num_threads(1)
    # A first training, of a few vectors, brings in what torch loads and allocates only once.
    vectors = np.load(path, mmap_mode="r")
    config = DenseConfig.for_bytes(vectors.shape[1], 64) if codec == "dense" else residual(vectors.shape[1])
    fit(config, np.array(vectors[:1_000]), Metric.L2, TrainingConfig(epochs=1, device="cpu"))
    before, most, done = anonymous(), 0, Event()

    def look() -> None:
        nonlocal most
        while not done.wait(LOOK_SECONDS):
            most = max(most, anonymous())

    # By default a share is held out, up to 5,000: here as many of a small array as of a large one.
    held_out = sample / 10 / len(vectors)
    training = TrainingConfig(epochs=1, start_sample=sample, held_out=held_out, device="cpu")
    looking = Thread(target=look, daemon=True)
    looking.start()
    began = time.monotonic()
    fit(config, vectors, Metric.L2, training)
    seconds = time.monotonic() - began
    done.set()
    looking.join()
    return Peak(before, most, seconds)


def residual(dim: int) -> ResidualConfig:
    """What is trained by `--codec residual`."""
    return ResidualConfig.for_bytes(16, Metric.L2, components=min(dim, 256))


def anonymous() -> int:
    """Bytes of this process that belong to no file."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
