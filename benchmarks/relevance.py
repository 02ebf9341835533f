"""Do judged sets get better hits? nDCG@10 and recall@100 over HTTP: exact vectors, codes, words, and both.

    python -m benchmarks.relevance FOLDER... [--bytes 16 32 64] [--kind dense] [--epochs N] [--chunking 200 40]
        [--json rows.json]

A folder has corpus.jsonl (id, text, title or none), queries.jsonl (id, text) and qrels.tsv (a heading, then query,
document, grade) as BEIR ships them, and beside them emb.npy and qemb.npy, a vector a line of each, so that nothing has
to be encoded here. A real server with one process takes title and text as an item's text, and its vector; each size of
codes is trained in turn and searched by codes alone, and with the exact scores of as many originals as is the default.
With --chunking the server cuts texts into chunks of so many tokens, with such an overlap, and encodes them itself by
sentence-transformers, all-MiniLM-L6-v2 where no setting names another; qemb.npy must be that model's.

Relevance is binary: a grade above 0. With r_i = 1 where the hit at rank i is relevant and R relevant documents in all,

    nDCG@10 = (sum over i = 1..10 of r_i / log2(i + 1)) / (sum over i = 1..min(10, R) of 1 / log2(i + 1))
    recall@100 = (sum over i = 1..100 of r_i) / R

and means over judged queries. Either is asked for with its own k, 10 and 100, as a user would.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.server import packed, served, trained
from models import Vectors
from service.client import Client

BATCH, FEWER = 500, 20
"""Documents in one request, and where the server encodes them."""
DISCOUNTS = 1 / np.log2(np.arange(2, 12))
TEXT: dict[str, Any] = {"mode": "text"}
CODES: dict[str, Any] = {"stage": "refine"}
HYBRIDS: dict[str, dict[str, Any]] = {
    "hybrid": {"mode": "hybrid"},
    "hybrid, weights": {"mode": "hybrid", "fusion": {"kind": "weights"}},
}


class Judged(NamedTuple):
    """A set of documents with the queries that somebody judged."""

    name: str
    documents: list[dict[str, Any]]
    vectors: Vectors
    """(n, D)"""
    queries: list[dict[str, Any]]
    points: Vectors
    """(q, D)"""
    relevant: list[set[str]]
    """Ids, by query."""

    @classmethod
    def read(cls, folder: Path) -> "Judged":
        """The set without queries that have no relevant document."""
        relevant: dict[str, set[str]] = {}
        for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
            query, document, grade = line.split("\t")
            if float(grade) > 0:
                relevant.setdefault(query, set()).add(document)
        queries = _lines(folder / "queries.jsonl")
        judged = [place for place, query in enumerate(queries) if query["id"] in relevant]
        vectors, points = (np.load(folder / name).astype(np.float32) for name in ("emb.npy", "qemb.npy"))
        asked = [queries[place] for place in judged]
        return cls(
            folder.name,
            _lines(folder / "corpus.jsonl"),
            vectors,
            asked,
            points[judged],
            [relevant[query["id"]] for query in asked],
        )


class Row(NamedTuple):
    """One line of the table."""

    set: str
    search: str
    code_bytes: int | None
    ndcg: float
    recall: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    arguments.add_argument("--bytes", type=int, nargs="+", default=[16, 32, 64])
    arguments.add_argument("--kind", default="dense")
    arguments.add_argument("--epochs", type=int)
    arguments.add_argument("--chunking", type=int, nargs=2, metavar=("TOKENS", "OVERLAP"))
    arguments.add_argument("--json", type=Path, help="also write the rows there")
    given = arguments.parse_args()
    training = {} if given.epochs is None else {"epochs": given.epochs}
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url, Client(url) as client:
            for path in given.folders:
                judged = Judged.read(path)
                _fill(client, judged, given.chunking and dict(zip(("tokens", "overlap"), given.chunking, strict=True)))
                for row in _measured(client, judged, given.bytes, given.kind, training):
                    print(f"{row.set}: {row.search}, {row.code_bytes or 'no'} bytes: {row.ndcg:.4f}", file=sys.stderr)
                    rows.append(row)
    finally:
        _print(rows)
    if given.json is not None:
        given.json.write_text(json.dumps([row._asdict() for row in rows], indent=1))


def _print(rows: Sequence[Row]) -> None:
    """A line a search, a column a set: nDCG@10, recall@100."""
    sets = list(dict.fromkeys(row.set for row in rows))
    cells = {(row.search, row.code_bytes, row.set): f"{row.ndcg:.3f}, {row.recall:.3f}" for row in rows}
    print(f"| nDCG@10, recall@100 | bytes a code | {' | '.join(sets)} |\n|---|---|{'---|' * len(sets)}")
    for search, size in dict.fromkeys((row.search, row.code_bytes) for row in rows):
        measured = " | ".join(cells.get((search, size, name), "") for name in sets)
        print(f"| {search} | {size or ''} | {measured} |")


def _fill(client: Client, judged: Judged, chunking: dict[str, int] | None) -> None:
    own = {"encoder": "sentence-transformers", "chunking": chunking}
    client.create({"name": judged.name} | (own if chunking else {"dimension": judged.vectors.shape[1]}))
    size = FEWER if chunking else BATCH
    for start in range(0, len(judged.documents), size):
        batch = zip(judged.documents[start : start + size], judged.vectors[start : start + size], strict=True)
        items = [
            {"id": document["id"], "text": _text(document)} | ({} if chunking else {"vector": packed(vector)})
            for document, vector in batch
        ]
        receipt = client.ingest(judged.name, items)
        assert receipt["counts"]["rejected"] == 0, receipt


def _measured(
    client: Client, judged: Judged, sizes: Sequence[int], kind: str, training: dict[str, Any]
) -> Iterator[Row]:
    def row(search: str, size: int | None, plan: dict[str, Any]) -> Row:
        gains = [_ndcg(*pair) for pair in zip(_found(client, judged, 10, plan), judged.relevant, strict=True)]
        shares = [_recall(*pair) for pair in zip(_found(client, judged, 100, plan), judged.relevant, strict=True)]
        return Row(judged.name, search, size, float(np.mean(gains)), float(np.mean(shares)))

    yield row("exact vectors", None, {"index": "exact"})
    yield row("words", None, TEXT)
    for name, plan in HYBRIDS.items():
        yield row(f"{name}, exact vectors", None, plan | {"index": "exact"})
    for size in sizes:
        generation = trained(client, judged.name, {"codec": {"kind": kind, "bytes": size}, "training": training})
        _until_served(client, judged, generation["generation"])
        yield row("codes", size, CODES)
        yield row("codes, rescored", size, {})
        for name, plan in HYBRIDS.items():
            yield row(f"{name}, codes", size, plan | CODES)
            yield row(f"{name}, codes, rescored", size, plan)


def _found(client: Client, judged: Judged, k: int, plan: dict[str, Any]) -> list[list[str]]:
    """Ids of the k hits of each query."""
    asked = []
    for query, point in zip(judged.queries, judged.points, strict=True):
        mode = plan.get("mode", "vector")
        words = {} if mode == "vector" else {"text": query["text"]}
        near = {} if mode == "text" else {"vector": packed(point)}
        asked.append({"k": k, "include": []} | words | near | plan)
    answers = client.search({"collection": judged.name, "queries": asked})["results"]
    assert not any(answer["partial"] for answer in answers)
    return [[hit["id"] for hit in answer["hits"]] for answer in answers]


def _until_served(client: Client, judged: Judged, generation: int) -> None:
    asked = {"collection": judged.name, "vector": packed(judged.points[0])}
    while client.search(asked)["generation"] != generation:
        time.sleep(0.05)


def _ndcg(hits: list[str], relevant: set[str]) -> float:
    gain = sum(discount for hit, discount in zip(hits, DISCOUNTS, strict=False) if hit in relevant)
    return float(gain / DISCOUNTS[: len(relevant)].sum())


def _recall(hits: list[str], relevant: set[str]) -> float:
    return len(relevant & set(hits)) / len(relevant)


def _text(document: dict[str, Any]) -> str:
    return f"{document.get('title', '')} {document['text']}".strip()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
