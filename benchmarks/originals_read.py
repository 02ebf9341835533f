"""Originals read a query and the recall that they give: as many for each hit, or those that come near enough.

    python -m benchmarks.originals_read wordnet=FOLDER --kept FOLDER [--bytes 32] [--scan 1]

Residual codes with their defaults; `--kept` keeps codec and codes for the next run, as benchmarks/search_speed.py does.
Margins are those that let so many of the true neighbours in the shortlists of half of the queries be read. All rows are
of the other half, asked one by one for ten hits; milliseconds are of this thread's own CPU time, originals in RAM.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.datasets import SETS
from benchmarks.search_speed import coded
from models import exact_neighbours, prepared
from service.index.segment import IndexKind
from service.index.view import View
from service.profile import Profile
from service.questions import Questions
from service.search import OVERSAMPLE, Plan, Stage, search

K, QUERIES = 10, 2_000
FIXED = (2, 3, 4, 5, 6, 8, OVERSAMPLE)
NEAR = (0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)
COLUMNS = ("originals", "read a query", "by 95 of 100 queries at most", "recall@10", "ms")


def settings(tuning: Questions, plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Shortlists of some lengths read whole, then parts of the longest."""
    for oversample in FIXED:
        yield f"{oversample} for each hit", replace(plan, oversample=oversample)
    gaps = tuning.gaps(plan)
    for share in NEAR:
        margin = float(np.quantile(gaps, share))
        yield f"margin {margin:.4f}, for {share:.2%}", replace(plan, margin=margin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", metavar="NAME=FOLDER", help=f"one of {', '.join(SETS)}")
    parser.add_argument("--bytes", type=int, default=32)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--scan", type=float, default=1)
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    name, _, folder = given.set.partition("=")
    data = SETS[name](Path(folder))
    base, queries = prepared(data.base, data.metric), prepared(data.queries[:QUERIES], data.metric)
    codec, codes = coded(base, data.metric, given.bytes, given.kept)
    view = View.of(1, codec, 1, np.arange(len(base)), codes)
    tuning, other = Questions(view, queries, exact_neighbours(base, queries, K, data.metric).rows).halves()
    print(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
    for said, plan in settings(tuning, Plan(K, OVERSAMPLE, IndexKind.FAISS, Stage.RESCORE, given.scan)):
        profiles, began = [Profile() for _ in other.vectors], time.thread_time()
        for vector, profile in zip(other.vectors, profiles, strict=True):
            search(view, vector[None], plan, lambda rows: {row: base[row].tobytes() for row in rows.tolist()}, profile)
        took = 1_000 * (time.thread_time() - began) / len(profiles)
        read = np.array([profile.counts["originals"] for profile in profiles])
        cells = (f"{read.mean():.1f}", f"{np.quantile(read, 0.95):.0f}", f"{other.recall(plan).mean():.4f}")
        print(f"| {' | '.join((said, *cells, f'{took:.2f}'))} |", flush=True)


if __name__ == "__main__":
    main()
