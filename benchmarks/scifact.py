"""SciFact as a user would: texts over HTTP into a running server, nDCG@10 on its judged claims, exact and compressed.

    codewell serve                                # with CODEWELL_TRAIN_AT=0, so that training is asked for here
    python -m benchmarks.scifact DATA [--url http://127.0.0.1:8000] [--collection scifact]

DATA is a folder with corpus.jsonl (id, title, text), queries.jsonl (id, text) and qrels.tsv (query, document, grade),
as BEIR ships it. nDCG@10 with binary relevance: the sum over relevant hits of 1 / log2(rank + 1), divided by the
largest sum there can be; the mean over judged queries.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.server import trained
from service.client import Client

SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {"index": "exact"},
    "faiss, 100 originals read (default)": {},
    "faiss, codes only": {"stage": "refine"},
    "buckets, 100 originals read": {"index": "buckets"},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--url", default="http://127.0.0.1:8000")
    arguments.add_argument("--collection", default="scifact")
    given = arguments.parse_args()
    documents, queries = read(given.data / "corpus.jsonl"), read(given.data / "queries.jsonl")
    relevant: dict[str, set[str]] = {}
    for line in (given.data / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if float(grade) > 0:
            relevant.setdefault(query, set()).add(document)
    client = Client(given.url)
    warned = 0
    for start in range(0, len(documents), 128):
        batch = documents[start : start + 128]
        texts = [f"{document.get('title', '')} {document['text']}".strip() for document in batch]
        items = [{"id": document["id"], "text": text} for document, text in zip(batch, texts, strict=True)]
        receipt = client.ingest(given.collection, items)
        assert receipt["counts"]["rejected"] == 0, receipt
        warned += sum(result["warning"] is not None for result in receipt["results"])
        print(f"\r{start + len(batch)} of {len(documents)} documents", end="", flush=True)
    print(f"; {warned} were longer than the encoder reads")
    certificate = trained(client, given.collection, {})["certificate"]
    print(f"{certificate['code_bytes']} bytes a code, in all {certificate['total_bytes']} bytes a vector")
    judged = [query for query in queries if query["id"] in relevant]
    for name, setting in SETTINGS.items():
        asked = [{"text": query["text"], "k": 10, "include": [], **setting} for query in judged]
        answer = client.search({"collection": given.collection, "queries": asked})
        gains = [
            ndcg([hit["id"] for hit in result["hits"]], relevant[query["id"]])
            for query, result in zip(judged, answer["results"], strict=True)
        ]
        print(f"nDCG@10 {np.mean(gains):.4f}  {name}")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ndcg(hits: list[str], relevant: set[str]) -> float:
    """Of the first ten hits."""
    discounts = 1 / np.log2(np.arange(2, 12))
    gain = sum(discount for hit, discount in zip(hits, discounts, strict=False) if hit in relevant)
    return float(gain / discounts[: len(relevant)].sum())


if __name__ == "__main__":
    main()
