"""Exhaustive search by which jobs and batch builds know the true neighbours: on the processor, and on CUDA.

    python -m benchmarks.exhaustive F.npy [--rows 1000000] [--queries 1000] [--k 101] [--block 5000] [--json rows.json]

As a job asks: vectors in blocks, one after the other, under cosine. With more `--rows` than F.npy has, vectors are real
ones plus noise of a tenth of their length. Both devices take turns; medians of the rounds are told, and answers that
are not equal end it.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.search_speed import grown
from models import Metric, Neighbours, Vectors, normalized
from models.device import device_named
from service.index.exact import exact_search


def timed(base: Vectors, queries: Vectors, k: int, block: int, device: str) -> tuple[Neighbours, float]:
    """What is found, and in how many seconds."""
    blocks = ((np.arange(at, min(at + block, len(base))), base[at : at + block]) for at in range(0, len(base), block))
    began = time.perf_counter()
    return exact_search(blocks, queries, k, Metric.COSINE, device), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--k", type=int, default=101)
    parser.add_argument("--block", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    real = normalized(np.load(given.vectors).astype(np.float32))
    queries, base = real[:: -(-len(real) // given.queries)], grown(real, given.rows)
    devices = ["cpu", "auto"] if device_named("auto").type == "cuda" else ["cpu"]
    took: dict[str, list[float]] = {device: [] for device in devices}
    for _ in range(given.rounds):
        found = []
        for device in devices:
            answer, seconds = timed(base, queries, given.k, given.block, device)
            found.append(answer)
            took[device].append(seconds)
        if not all(np.array_equal(one.rows, found[0].rows) for one in found):
            raise SystemExit("the devices do not agree")
    name = torch.cuda.get_device_name() if "auto" in took else ""
    print(f"{len(queries):,} queries over {len(base):,} vectors, k {given.k}, blocks of {given.block}")
    for device, all_rounds in took.items():
        where = name if device == "auto" else f"{torch.get_num_threads()} threads"
        print(f"{where}: {statistics.median(all_rounds):.2f} s ({', '.join(f'{one:.2f}' for one in all_rounds)})")
    if given.json is not None:
        given.json.write_text(json.dumps({"cuda": name, "seconds": took}) + "\n")


if __name__ == "__main__":
    main()
