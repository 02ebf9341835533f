"""Whether certificates hold: codecs of many seeds, certified under a contract, then asked ten times as many queries.

    python -m benchmarks.contracts vectors.npy --seeds 20

One collection of the first 10,000 vectors, rows after them as queries; under each seed other items are held out and
another codec is trained. A line a seed: the tuned oversample, the certified recall@10 and its interval, the recall@10
of the fresh queries, and whether it lies within and is above the contract. SQLite in a temporary folder, one thread.
"""

import argparse
import tempfile
from pathlib import Path
from threading import Semaphore

import numpy as np
import torch

from models import Metric, exact_neighbours, recall
from service.catalog import Catalog
from service.errors import ContractBroken
from service.generation import Build
from service.index.segment import IndexKind
from service.item import NewItem
from service.query import Example, Query
from service.search import OVERSAMPLE, Plan
from service.store import schema
from service.store.database import Database

ITEMS, FRESH, K = 10_000, 5_000, 10


def main() -> None:
    """Prints the table and how many of the seeds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--bytes", type=int, default=16)
    parser.add_argument("--recall", type=float, default=0.9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    vectors = np.load(given.vectors, mmap_mode="r")[: ITEMS + FRESH].astype(np.float32)
    vectors = vectors[np.random.default_rng(0).permutation(len(vectors))]
    base, fresh = vectors[:ITEMS], vectors[ITEMS:]
    truth = exact_neighbours(base, fresh, K, Metric.COSINE).rows
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/codewell.db")
        schema.upgrade(database)
        collection = Catalog(database, {}, Semaphore(), base.shape[1], None).create("c", dimension=base.shape[1])
        for start in range(0, ITEMS, 1_000):
            collection.ingest(
                [NewItem(str(row), None, base[row], {}) for row in range(start, min(start + 1_000, ITEMS))]
            )
        queries = [
            Query((Example(vector=row),), Plan(K, OVERSAMPLE, IndexKind.FAISS, None), tuned=True) for row in fresh
        ]
        print("| seed | oversample | certified | interval | fresh | within | above the contract |\n" + "|---" * 7 + "|")
        within = above = refused = 0
        for seed in range(given.seeds):
            parameters = {
                "codec": {"bytes": given.bytes, "decoder_hidden": []},
                "training": {"epochs": 2, "seed": seed},
                "contract": {f"recall@{K}": given.recall},
            }
            build = Build(database, collection.id, parameters, Path(folder) / str(seed), lambda _, __: None)
            try:
                certificate = build.run(1_000_000, keep=0)["certificate"]
            except ContractBroken as broken:
                refused += 1
                print(f"| {seed} | refused: {broken} |")
                continue
            collection.follow()
            answers = collection.search(queries)
            found = np.array([[int(hit.item.item_id) for hit in answer.hits] for answer in answers])
            value, low, high = (certificate["intervals"][f"recall@{K}"][end] for end in ("value", "low", "high"))
            real = float(recall(found, truth).mean())
            inside, kept = low <= real <= high, real >= given.recall
            within, above = within + inside, above + kept
            told = f"{value:.4f} | {low:.4f} to {high:.4f} | {real:.4f} | {inside} | {kept}"
            print(f"| {seed} | {certificate['oversample']} | {told} |", flush=True)
        published = given.seeds - refused
        print(f"\n{published} published, {refused} refused; {within} within their interval, {above} above the contract")
        database.close()


if __name__ == "__main__":
    main()
