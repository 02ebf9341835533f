"""The demo's table: recall, bytes and speed of a trained collection, over HTTP, beside PCA codes of equal length.

Knows the server's API and nothing of how the server was started.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from service.client import Client
from service.console import Progress
from service.upload import encoded

K = 10
OVERSAMPLE = 10
PAGE = 1_000
CLIENTS = 2
REQUESTS = 400
BATCH = 200
PCA_CODES = {"PCA64,SQ8": "PCA, 64 x int8", "PCA128,SQ4": "PCA, 128 x int4"}
"""FAISS's names of codes of 64 bytes."""

Vectors = NDArray[np.float32]
Settings = dict[str, str]


def measured(
    client: Client, collection: str, items: Sequence[dict[str, Any]], queries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """All figures. The queries' vectors come from a helper collection, which is deleted again."""
    ids = [item["id"] for item in items]
    with Progress("measure", 1) as progress:
        progress.to(0.0, "encoding the queries")
        asked = query_vectors(client, f"{collection}-queries", queries)
        progress.to(0.1, "exact search: the truth")
        truth = found(client, collection, asked, {"index": "exact"})
        rows = []
        for number, index in enumerate(("exact", "faiss", "buckets")):
            progress.to(0.2 + 0.2 * number, f"recall and speed: {index}")
            rows.append(served_row(client, collection, asked, truth, index))
        progress.to(0.8, "reading the vectors for PCA")
        vectors = item_vectors(client, collection, ids)
        progress.to(0.95, "PCA at equal bytes")
        position = {item_id: place for place, item_id in enumerate(ids)}
        true_places = np.array([[position[item_id] for item_id in of] for of in truth])
        rows.append(best_pca(vectors, asked, true_places))
        progress.to(1.0, "done")
    return {"items": len(ids), "queries": len(queries), "k": K, "originals_read": K * OVERSAMPLE, "rows": rows}


def query_vectors(client: Client, helper: str, queries: Sequence[dict[str, Any]]) -> Vectors:
    """(q, D): the server's own encoding of the texts."""
    try:
        client.ingest(helper, [{"id": query["id"], "text": query["text"]} for query in queries])
        return item_vectors(client, helper, [query["id"] for query in queries])
    finally:
        client.delete(helper)


def item_vectors(client: Client, collection: str, ids: Sequence[str]) -> Vectors:
    """(n, D) as they are stored."""
    pages = [
        client.items(collection, ids[start : start + PAGE], include=["vector"])["items"]
        for start in range(0, len(ids), PAGE)
    ]
    vectors = np.array([item["vector"] for page in pages for item in page], np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def asking(collection: str, vector: Vectors, settings: Settings) -> dict[str, Any]:
    return {"collection": collection, "vector": encoded(vector), "k": K, "oversample": OVERSAMPLE, **settings}


def found(client: Client, collection: str, asked: Vectors, settings: Settings) -> list[list[str]]:
    """The ids that each query finds, in one request."""
    answer = client.search({"queries": [asking(collection, vector, settings) for vector in asked]})
    return [[hit["id"] for hit in result["hits"]] for result in answer["results"]]


def served_row(client: Client, collection: str, asked: Vectors, truth: list[list[str]], index: str) -> dict[str, Any]:
    """What the collection does with one index."""
    certificate = client.collection(collection)["certificate"]
    row: dict[str, Any] = {"what": f"Codewell, {index}", "code_bytes": certificate["code_bytes"]}
    if index == "exact":
        row = {"what": "exact, originals", "code_bytes": certificate["original_bytes"]}
        row |= {"total_bytes": certificate["original_bytes"], "recall_codes": 1.0, "recall_rescored": 1.0}
    else:
        row["total_bytes"] = certificate["total_bytes"][index]
        for name, stage in (("recall_codes", "refine"), ("recall_rescored", "rescore")):
            row[name] = share(found(client, collection, asked, {"index": index, "stage": stage}), truth)
    singly, batched = speed(client, collection, asked, {"index": index}, REQUESTS // (8 if index == "exact" else 1))
    return row | {"queries_per_second": singly, "queries_per_second_batch": batched}


def share(answers: list[list[str]], truth: list[list[str]]) -> float:
    """recall@K."""
    hits = sum(len(set(got) & set(true)) for got, true in zip(answers, truth, strict=True))
    return round(hits / (K * len(truth)), 4)


def speed(client: Client, collection: str, asked: Vectors, settings: Settings, requests: int) -> tuple[float, float]:
    """Queries a second: single requests of `CLIENTS` at a time, and one request with `BATCH` queries."""
    bodies = [asking(collection, vector, settings) for vector in asked]

    def ask(number: int) -> None:
        client.search(bodies[number % len(bodies)])

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask, range(2 * CLIENTS)))
        began = time.perf_counter()
        list(clients.map(ask, range(requests)))
        singly = requests / (time.perf_counter() - began)
    began = time.perf_counter()
    client.search({"queries": bodies[:BATCH]})
    return round(singly, 1), round(len(bodies[:BATCH]) / (time.perf_counter() - began), 1)


def best_pca(vectors: Vectors, asked: Vectors, truth: NDArray[np.int64]) -> dict[str, Any]:
    """The best of PCA's codes of 64 bytes, each ranked as FAISS does and by the cosine with the decoded vectors."""
    rows: list[dict[str, Any]] = []
    for factory, what in PCA_CODES.items():
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_L2)
        index.train(vectors)
        index.add(vectors)
        decoded = index.reconstruct_n(0, len(vectors))
        decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
        rankings = {
            "as FAISS ranks": index.search(asked, K * OVERSAMPLE)[1],
            "by cosine of decoded vectors": np.argsort(-(asked @ decoded.T), axis=1, kind="stable")[
                :, : K * OVERSAMPLE
            ],
        }
        for ranking, ranked in rankings.items():
            scores = np.einsum("qd,qkd->qk", asked, vectors[ranked])
            rescored = np.take_along_axis(ranked, np.argsort(-scores, axis=1, kind="stable"), axis=1)
            row: dict[str, Any] = {"what": what, "ranking": ranking, "code_bytes": int(index.sa_code_size())}
            row["total_bytes"] = round(len(faiss.serialize_index(index)) / len(vectors), 2)
            row |= {"recall_codes": overlap(ranked, truth), "recall_rescored": overlap(rescored, truth)}
            rows.append(row)
    return max(rows, key=lambda row: row["recall_codes"]) | {"of": rows}


def overlap(ranked: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """recall@K of places."""
    hits = (ranked[:, :K, None] == truth[:, None, :]).any(axis=2).sum()
    return round(float(hits) / truth.size, 4)


def print_measured(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    pca = next(row for row in figures["rows"] if "ranking" in row)
    caption = (
        f"Recall is against exact search over the same {figures['items']:,} items, of {figures['queries']} texts that "
        f"are no items. 'In all' counts ids, tables and the codec, which weigh less the more items there are. PCA: the "
        f"best of 4 ways to use 64 bytes, here ranked {pca['ranking']}. Queries a second over HTTP with rescoring, "
        f"{CLIENTS} clients on the server's machine, or {BATCH} queries in one request."
    )
    table = Table(title="What the codes cost and keep", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("")
    for column in (
        "bytes\na code",
        "bytes a vector\nin all",
        f"recall@{K}\ncodes only",
        f"recall@{K}, {figures['originals_read']}\noriginals read",
        "queries/s\nsingle",
        "queries/s\nin a batch",
    ):
        table.add_column(column, justify="right")
    for row in figures["rows"]:
        rates = [row.get("queries_per_second"), row.get("queries_per_second_batch")]
        table.add_row(
            row["what"],
            f"{row['code_bytes']:,}",
            f"{row['total_bytes']:,.0f}",
            f"{row['recall_codes']:.3f}",
            f"{row['recall_rescored']:.3f}",
            *("-" if rate is None else f"{rate:,.0f}" for rate in rates),
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(table)
