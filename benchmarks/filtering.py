"""What a metadata filter costs: recall@10 and milliseconds a search, over HTTP, at 50, 10, 1 and 0.1% of the items.

    python -m benchmarks.filtering --base F.npy --queries F.npy [--items 100000] [--kind dense] [--bytes 64]
        [--metric cosine] [--minutes 10]

A real server with one process and one client, one query a request; each item's metadata has a random rank, and a filter
takes the ranks below a bound. Truth is an exact search among the items that the filter chooses. The searches of all
shares take turns, so that the ratio to searching without a filter is that of one moment; medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.server import packed, served, trained
from models import Metric, exact_neighbours, prepared
from service.client import Client

SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)
PLANS: dict[str, dict[str, Any]] = {
    "faiss, rescored": {},
    "faiss, codes only": {"stage": "refine"},
    "buckets, rescored": {"index": "buckets"},
    "exact": {"index": "exact"},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--base", type=Path, required=True)
    arguments.add_argument("--queries", type=Path, required=True)
    arguments.add_argument("--items", type=int, default=100_000)
    arguments.add_argument("--asked", type=int, default=100, help="queries")
    arguments.add_argument("--kind", default="dense", help="of the codec")
    arguments.add_argument("--bytes", type=int, default=64)
    arguments.add_argument("--minutes", type=float, default=10, help="of training, at most")
    arguments.add_argument("--metric", choices=[metric.value for metric in Metric], default="cosine")
    given = arguments.parse_args()
    metric = Metric(given.metric)
    base = np.load(given.base, mmap_mode="r")[: given.items].astype(np.float32)
    queries = np.load(given.queries, mmap_mode="r")[: given.asked].astype(np.float32)
    ranks = np.random.default_rng(0).permutation(len(base))
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url, Client(url) as client:
        codec = {"kind": given.kind, "bytes": given.bytes}
        fill(client, base, ranks, metric, codec, given.minutes)
        measure(client, base, queries, ranks, metric)


def fill(client: Client, base: Any, ranks: Any, metric: Metric, codec: dict[str, Any], minutes: float) -> None:
    client.create({"name": "filtered", "dimension": base.shape[1], "metric": metric.value, "codec": codec})
    for start in range(0, len(base), 1_000):
        items = [
            {"id": str(row), "vector": packed(base[row]), "metadata": {"rank": int(ranks[row])}}
            for row in range(start, min(start + 1_000, len(base)))
        ]
        client.ingest("filtered", items)
    trained(client, "filtered", {"training": {"epochs": 5, "minutes": minutes}})


def measure(client: Client, base: Any, queries: Any, ranks: Any, metric: Metric) -> None:
    points, asked = prepared(base, metric), prepared(queries, metric)
    truths = {}
    for share in SHARES:
        rows = np.flatnonzero(ranks < share * len(base))
        truths[share] = rows[exact_neighbours(points[rows], asked, min(10, len(rows)), metric).rows]
    print(f"{len(base):,} items, {len(queries)} queries\n")
    print("| | of the items | recall@10 | ms | to no filter |\n|---|---|---|---|---|")
    for name, plan in PLANS.items():
        same = dict.fromkeys(SHARES, 0)
        took: dict[float, list[float]] = {share: [] for share in SHARES}
        ratios: dict[float, list[float]] = {share: [] for share in SHARES}
        for number, query in enumerate(queries):
            body = {"collection": "filtered", "vector": query.tolist(), "include": []} | plan
            for share in SHARES:
                wanted = {} if share == 1 else {"filter": {"rank": {"$lt": share * len(base)}}}
                began = time.perf_counter()
                answer = client.search(body | wanted)
                took[share].append(1_000 * (time.perf_counter() - began))
                ratios[share].append(took[share][-1] / took[1.0][-1])
                assert not answer["partial"], answer
                same[share] += len(set(truths[share][number].tolist()) & {int(hit["id"]) for hit in answer["hits"]})
        for share in SHARES:
            recall = same[share] / truths[share].size
            cells = f"{recall:.3f} | {statistics.median(took[share]):.2f} | {statistics.median(ratios[share]):.2f}"
            print(f"| {name} | {share:.1%} | {cells} |")


if __name__ == "__main__":
    main()
