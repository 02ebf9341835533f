"""What `drift` says over a real server: of more of the same items and queries, and of others.

    python -m benchmarks.drift vectors.npy others.npy [--queries questions.npy]

20,000 of the vectors are ingested and a residual codec of 16 bytes is trained. Then 500 later rows of the same file are
ingested and 200 asked for; then as many of `others`, or of the questions. A line each: `drift` as it is after it.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.server import packed, served, trained
from models import Vectors
from service.client import Client
from service.examiner import BESIDE_SECONDS

ITEMS, NEW, ASKED, BATCH = 20_000, 500, 200, 1_000


def ingest(client: Client, vectors: Vectors, first: int) -> None:
    """Vectors as items whose ids count on from the first one's."""
    for start in range(0, len(vectors), BATCH):
        rows = range(start, min(start + BATCH, len(vectors)))
        client.ingest("c", [{"id": str(first + row), "vector": packed(vectors[row])} for row in rows])


def ask(client: Client, vectors: Vectors) -> None:
    client.search({"collection": "c", "queries": [{"vector": packed(vector), "k": 1} for vector in vectors]})


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("--queries", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    same = rng.permutation(np.load(given.vectors, mmap_mode="r")[: ITEMS + NEW + ASKED].astype(np.float32))
    others, questions = (np.load(path).astype(np.float32) for path in (given.others, given.queries or given.others))
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url, Client(url) as client:
        client.create({"name": "c", "dimension": same.shape[1]})
        ingest(client, same[:ITEMS], 0)
        trained(client, "c", {"codec": {"kind": "residual", "bytes": 16}})
        before = 0.0
        for name, first, items, asked in (
            ("the same", ITEMS, same[ITEMS : ITEMS + NEW], same[-ASKED:]),
            ("others", ITEMS + NEW, others[:NEW], questions[-ASKED:]),
        ):
            ingest(client, items, first)
            ask(client, asked)
            time.sleep(max(0.0, before + BESIDE_SECONDS + 1 - time.monotonic()))
            print(name, json.dumps(client.collection("c")["drift"]), flush=True)
            before = time.monotonic()


if __name__ == "__main__":
    main()
