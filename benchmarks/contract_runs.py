"""Contracts as a user lives with them, on a real set over a real server: planned, kept, refused, and asked what is new.

    python -m benchmarks.contract_runs SET FOLDER [--rows 20000] [--fresh 5000] [--minutes 5] [--recall 0.95]
        [--bytes 32] [--kind dense] [--json run.json]

SET is one of benchmarks/datasets.py, whose vectors are ingested, at most --rows of them drawn at random; --fresh others
are asked for. Of wordnet and glove these are rows that were not drawn, of fashion-mnist the images that it keeps as
queries. Or SET is `texts`: FOLDER is then as benchmarks/relevance.py says, the server encodes the texts by
sentence-transformers, and is asked by the judged queries and by a fifth of the documents, set apart.

1. `POST /collections/{c}/plan` with recall@10 >= --recall in at most --bytes bytes.
2. The codec that the plan takes is trained under that contract.
3. Fresh queries are asked over HTTP as a default search; their true neighbours are those of `"index": "exact"`.
4. A codec of --kind, dense if none is named, is trained in --bytes under recall@10 >= 0.9, and asked likewise.
5. A contract that nothing keeps, recall@10 >= 0.99 by one byte, must be refused with its figures, and the generation
   before it must go on to give the same hits.

A line a training and kind of query: the certified recall@10 with its interval, that of the fresh queries, and whether
it lies within; and whether it is above the contract.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.datasets import SETS
from benchmarks.relevance import Judged
from benchmarks.server import ended, packed, served, trained
from models import Estimate, Metric
from service.client import Client

BATCH, FEWER = 500, 64
"""Items of one request, and queries; of texts."""
OTHERS = 5
"""One document in so many is a query instead of an item."""
SEARCH_MS = "600000"
"""A search's time: of so many texts at once, on a busy machine, each must be answered."""
K = 10
REFUSED: dict[str, Any] = {
    "codec": {"kind": "faiss", "factory": "PQ1x8"},
    "contract": {"recall@10": 0.99, "max_bytes": 1},
}
"""A training that must publish nothing."""

Body = Mapping[str, Any]


class RealSet(NamedTuple):
    """What is ingested and what is asked."""

    name: str
    collection: dict[str, Any]
    """As it is made, without its name."""
    items: Sequence[Body]
    asked: Mapping[str, Sequence[Body]]
    """Queries by what they are."""

    @classmethod
    def of_vectors(cls, name: str, folder: Path, rows: int, fresh: int) -> "RealSet":
        """At most `rows` vectors, and `fresh` that are not among them."""
        whole = SETS[name](folder)
        order = np.random.default_rng(0).permutation(len(whole.base))
        if whole.metric is Metric.L2:
            base, others = whole.base[order[:rows]], whole.queries[:fresh]
        else:
            base, others = whole.base[order[:rows]], whole.base[order[rows : rows + fresh]]
        return cls(
            name,
            {"dimension": base.shape[1], "metric": whole.metric},
            [{"id": str(number), "vector": packed(vector)} for number, vector in enumerate(base)],
            {"others": [{"vector": packed(vector)} for vector in others]},
        )

    @classmethod
    def of_texts(cls, folder: Path) -> "RealSet":
        """Documents of which a fifth is set apart, and the judged queries."""
        judged = Judged.read(folder)
        texts = [f"{one.get('title', '')} {one['text']}".strip() for one in judged.documents]
        apart = set(np.random.default_rng(0).permutation(len(texts))[: len(texts) // OTHERS].tolist())
        return cls(
            judged.name,
            {"encoder": "sentence-transformers"},
            [
                {"id": one["id"], "text": text}
                for number, (one, text) in enumerate(zip(judged.documents, texts, strict=True))
                if number not in apart
            ],
            {
                "other documents": [{"text": texts[number]} for number in sorted(apart)],
                "judged queries": [{"text": query["text"]} for query in judged.queries],
            },
        )


class Row(NamedTuple):
    """One line of the table."""

    set: str
    items: int
    contract: float
    codec: str
    code_bytes: int
    certified: Estimate
    asked: str
    queries: int
    fresh: float

    def line(self) -> str:
        """In Markdown."""
        value, low, high = self.certified
        within = "below" if self.fresh < low else "above" if self.fresh > high else "yes"
        return (
            f"| {self.set} | {self.items:,} | {self.contract:g} | {self.codec} | {self.code_bytes} | {value:.4f} "
            f"[{low:.4f}, {high:.4f}] | {self.queries:,} {self.asked} | {self.fresh:.4f} | {within} | "
            f"{'kept' if self.fresh >= self.contract else 'not kept'} |"
        )


HEAD = (
    "| set | items | asked for | codec | bytes | certified recall@10 | asked by | their recall | within | contract |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=[*SETS, "texts"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--fresh", type=int, default=5_000)
    parser.add_argument("--minutes", type=float, default=5.0, help="of the plan")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--bytes", type=int, default=32)
    parser.add_argument("--kind", default="dense", help="of the codec that no plan chooses")
    parser.add_argument("--json", type=Path, help="plan, certificates and rows are written there too")
    given = parser.parse_args()
    if given.set == "texts":
        chosen = RealSet.of_texts(given.folder)
    else:
        chosen = RealSet.of_vectors(given.set, given.folder, given.rows, given.fresh)
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), ENCODER="sentence-transformers", SEARCH_MS=SEARCH_MS) as url,
        Client(url) as client,
    ):
        run = _run(client, chosen, given.recall, given.bytes, given.minutes, given.kind)
    print(HEAD)
    for row in run["rows"]:
        print(row.line())
    if given.json is not None:
        given.json.write_text(json.dumps(run | {"rows": [row._asdict() for row in run["rows"]]}, indent=1))


def _run(client: Client, chosen: RealSet, least: float, size: int, minutes: float, kind: str) -> dict[str, Any]:
    name, asked = chosen.name, chosen.asked
    client.create({"name": name} | chosen.collection)
    for batch in _batches(chosen.items):
        receipt = client.ingest(name, batch)
        assert receipt["counts"]["rejected"] == 0, receipt
    truth = {what: _found(client, name, queries, index="exact") for what, queries in asked.items()}
    job = client.plan(name, {"contract": {f"recall@{K}": least, "max_bytes": size}, "minutes": minutes})
    plan = ended(client, job)
    _say(name, *plan["sentences"])
    if plan["take"] is None:
        sys.exit(f"{name}: no code that was tried meets the contract")
    run: dict[str, Any] = {"plan": plan, "certificates": [], "rows": []}
    codecs: list[tuple[dict[str, Any], float]] = [
        (plan["take"]["codec"], least),
        ({"kind": kind, "bytes": size}, 0.9),
    ]
    for codec, wanted in codecs:
        contract = {f"recall@{K}": wanted, "max_bytes": size}
        generation = trained(client, name, {"codec": codec, "contract": contract})["generation"]
        _until(client, chosen, generation)
        certificate = client.certificate(name)["certificate"]
        run["certificates"].append(certificate)
        certified = Estimate(**certificate["intervals"][f"recall@{K}"])
        for what, queries in asked.items():
            pairs = zip(_found(client, name, queries), truth[what], strict=True)
            fresh = float(np.mean([len(set(found) & set(true)) / len(true) for found, true in pairs]))
            told = codec.get("factory") or codec["kind"]
            row = Row(
                name, len(chosen.items), wanted, told, certificate["code_bytes"], certified, what, len(queries), fresh
            )
            _say(row.line())
            run["rows"].append(row)
    run["refused"] = _refused(client, chosen, generation)
    return run


def _refused(client: Client, chosen: RealSet, published: int) -> str:
    """Why the training was that must be; fails where it was not, or where the generation before it answers no more."""
    few = next(iter(chosen.asked.values()))[:FEWER]
    before = _found(client, chosen.name, few)
    job = client.train(chosen.name, REFUSED)
    while job["state"] in ("queued", "running"):
        time.sleep(0.2)
        job = client.job(job["id"])
    said = f"{job['state']}: {job['message']}"
    _say(chosen.name, said)
    assert job["state"] == "failed", said
    assert job["result"]["certificate"]["intervals"][f"recall@{K}"]["low"] < REFUSED["contract"][f"recall@{K}"]
    assert client.collection(chosen.name)["generation"] == published
    assert _found(client, chosen.name, few) == before
    return said


def _found(client: Client, collection: str, queries: Sequence[Body], **plan: Any) -> list[list[str]]:
    """Ids of the k hits of each query."""
    found = []
    for batch in _batches(queries):
        asked = [{"k": K, "include": [], **query, **plan} for query in batch]
        answers = client.search({"collection": collection, "queries": asked})["results"]
        assert not any(answer["partial"] for answer in answers)
        found += [[hit["id"] for hit in answer["hits"]] for answer in answers]
    return found


def _batches(bodies: Sequence[Body]) -> Iterator[Sequence[Body]]:
    size = FEWER if "text" in bodies[0] else BATCH
    return (bodies[start : start + size] for start in range(0, len(bodies), size))


def _until(client: Client, chosen: RealSet, generation: int) -> None:
    """It answers."""
    asked = {"collection": chosen.name, **next(iter(chosen.asked.values()))[0]}
    while client.search(asked)["generation"] != generation:
        time.sleep(0.05)


def _say(*said: str) -> None:
    print(*said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
