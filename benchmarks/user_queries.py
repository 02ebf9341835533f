"""What a certificate says by held-out items and by given queries, and what queries that it never saw are answered.

    python -m benchmarks.user_queries vectors.npy queries.npy [--bytes 8] [--items 20000]

Over a real server; a residual codec under a contract that nothing breaks, so that the oversample is tuned. Half of the
queries are given before the second training; the other half are asked after each, for ten hits as a search is by
default, and held against exact search. A line a training.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.drift import ingest
from benchmarks.server import packed, served, trained
from models import Metric, Vectors, estimated, exact_neighbours, recall
from service.client import Client

BATCH, K = 100, 10


def found(client: Client, queries: Vectors) -> list[list[int]]:
    """Rows of the hits."""
    rows = []
    for start in range(0, len(queries), BATCH):
        asked = [{"collection": "c", "vector": packed(query), "k": K} for query in queries[start : start + BATCH]]
        answers = client.search({"queries": asked})["results"]
        rows += [[int(hit["id"]) for hit in answer["hits"]] for answer in answers]
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--items", type=int, default=20_000)
    given = parser.parse_args()
    items = np.load(given.vectors, mmap_mode="r")[: given.items].astype(np.float32)
    queries = np.random.default_rng(0).permutation(np.load(given.queries).astype(np.float32))
    own, fresh = queries[::2], queries[1::2]
    truth = exact_neighbours(items, fresh, K, Metric.COSINE).rows
    print("| asked | certified on | oversample | recall@10 | interval | fresh | interval |\n" + "|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url, Client(url) as client:
        client.create({"name": "c", "dimension": items.shape[1]})
        ingest(client, items, 0)
        for asked in ("items", "queries"):
            if asked == "queries":
                client.give_queries("c", {"vectors": [packed(query) for query in own]})
            contract = {"recall@10": 0.5, "max_bytes": given.bytes}
            codec = {"kind": "residual", "bytes": given.bytes}
            certificate = trained(client, "c", {"codec": codec, "contract": contract})["certificate"]
            assert certificate["measured_by"] == asked
            value, low, high = (certificate["intervals"]["recall@10"][name] for name in ("value", "low", "high"))
            new = estimated(recall(np.array(found(client, fresh)), truth))
            told = f"{certificate['queries']} | {certificate['oversample']} | {value:.3f} | {low:.3f} to {high:.3f}"
            print(f"| {asked} | {told} | {new.value:.3f} | {new.low:.3f} to {new.high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
