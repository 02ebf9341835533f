"""Contracts, certificates and rollbacks over HTTP and by the command line, and while others write and search."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import pytest

from tests.conftest import Server, clustered
from tests.test_api_problems import problem
from tests.test_cli import codewell, last_json

ITEMS, DIM = 1_000, 16
VECTORS = clustered(ITEMS + 4_000, DIM, seed=5)
TINY = {"codec": {"bytes": 4, "decoder_hidden": []}, "training": {"epochs": 1}}


@dataclass
class Trained:
    """A collection with a contract that its first codec kept."""

    name: str
    result: dict[str, Any]


@pytest.fixture(scope="module")
def kept(server: Server) -> Trained:
    contract = {"recall@10": 0.8, "max_bytes": 4}
    made = {"name": "contract", "dimension": DIM, "metric": "l2", "codec": TINY["codec"], "contract": contract}
    assert server.post("/collections", made, 201)["contract"] == contract
    given = [{"id": str(row), "vector": VECTORS[row].tolist()} for row in range(ITEMS)]
    server.post("/ingest", {"collection": "contract", "items": given})
    return Trained("contract", server.trained("contract", training=TINY["training"]))


def found(server: Server, name: str) -> list[Any]:
    queries = [{"vector": VECTORS[ITEMS + row].tolist(), "include": []} for row in range(30)]
    answers = server.post("/search", {"collection": name, "queries": queries})["results"]
    return [[answer["generation"], [(hit["id"], hit["score"]) for hit in answer["hits"]]] for answer in answers]


def test_a_certificate_says_what_was_measured_and_how(server: Server, kept: Trained) -> None:
    told = server.get(f"/collections/{kept.name}/certificate")
    assert (told["collection"], told["generation"]) == (kept.name, kept.result["generation"])
    certificate = told["certificate"]
    assert certificate == kept.result["certificate"] == server.get(f"/collections/{kept.name}")["certificate"]
    assert certificate["contract"] == {"recall@10": 0.8, "max_bytes": 4}
    assert certificate["intervals"]["recall@10"]["low"] >= 0.8
    assert (certificate["queries"], certificate["tuned_on"], certificate["trained_on"]) == (100, 100, 760)
    assert (certificate["code_bytes"], certificate["original_bytes"], certificate["seed"]) == (4, 64, 0)
    assert (certificate["codec"]["kind"], certificate["codec"]["latents"]) == ("dense", 8)
    assert certificate["disk_bytes"] == {"code": 4, "original": 4 * DIM}
    assert certificate["encoded_per_second"] > 0
    assert 4 < certificate["total_bytes"]["faiss"] < certificate["total_bytes"]["buckets"]
    assert 0 < certificate["latency_ms"]["p50"] <= certificate["latency_ms"]["p99"]
    assert certificate["versions"]["numpy"] == np.__version__
    assert told["published_at"] >= certificate["measured_at"]


def test_a_contract_that_is_not_kept_fails_its_job_and_the_old_codec_answers(server: Server, kept: Trained) -> None:
    before = found(server, kept.name)
    run = codewell(server, "train", "--collection", kept.name, "--epochs", "1", "--contract", "recall@10=0.99")
    assert run.returncode == 1
    said = last_json(run)
    figures = said["certificate"]["intervals"]["recall@10"]
    assert (said["state"], figures["low"] < 0.99) == ("failed", True)
    for words in ("nothing was published: recall@10 is", "the contract asks for 0.99", "codes of more than 4 bytes"):
        assert words in run.stderr
    job = server.get(f"/jobs/{said['job']}")
    assert job["result"]["certificate"] == said["certificate"]
    assert "nothing was published" in job["message"]
    assert found(server, kept.name) == before
    refused, published = server.get(f"/collections/{kept.name}/generations")["generations"][:2]
    assert (refused["state"], refused["certificate"], refused["published_at"]) == ("refused", said["certificate"], None)
    assert refused["oversample"] == said["certificate"]["oversample"] == 100
    assert (published["id"], published["state"]) == (kept.result["generation"], "published")
    told = codewell(server, "certificate", "--collection", kept.name)
    assert f"generation {published['id']} of {kept.name}, published 20" in told.stdout
    interval = published["certificate"]["intervals"]["recall@10"]
    assert f"95% interval {interval['low']:.3f} to {interval['high']:.3f}; the contract asks for 0.8" in told.stdout


def test_there_is_no_way_back_before_a_second_codec(server: Server, kept: Trained) -> None:
    path, first = f"/collections/{kept.name}/rollback", kept.result["generation"]
    nowhere = problem(server.client.post(path), 409, "generation", "no generation was published before")
    assert nowhere["title"] == "Generation not kept"
    problem(server.client.post(path, json={"generation": first}), 409, "generation", f"generation {first} is published")
    problem(server.client.post(path, json={"generation": 10**6}), 404, "generation", f"/collections/{kept.name}/gen")
    problem(server.client.post(path, json={"to": 1}), 422, "to", "Extra inputs")
    problem(server.client.post("/collections/none/rollback"), 404, "collection")


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"contract": {"recall@10": 1.5}}, "contract.recall@10", "less than 1"),
        ({"contract": {"recall@7": 0.5}}, "contract.recall@7", "Extra inputs"),
        ({"contract": {}}, "contract", "at least one of recall@1"),
        ({"codec": {"bytes": 8}}, "contract.max_bytes", "take 8 bytes and the contract allows 4"),
        ({"contract": {"max_bytes": 3}}, "contract.max_bytes", '"bytes": 3'),
    ],
)
def test_a_contract_that_cannot_be_is_refused(
    server: Server, kept: Trained, body: dict[str, Any], field: str, said: str
) -> None:
    problem(server.client.post(f"/collections/{kept.name}/train", json=body), 422, field, said)


def test_nothing_is_certified_before_a_training(server: Server, name: str) -> None:
    asked = {"name": name, "dimension": DIM, "contract": {"max_bytes": 31}}
    problem(server.client.post("/collections", json=asked), 422, "contract.max_bytes", "allows 31")
    server.post("/collections", {"name": name, "dimension": DIM}, 201)
    problem(server.client.get(f"/collections/{name}/certificate"), 404, "collection", f"POST /collections/{name}/train")
    assert server.get(f"/collections/{name}/generations") == {"generations": []}
    run = codewell(server, "train", "--collection", name, "--contract", "recall@10:0.9")
    assert (run.returncode, "recall@10=0.9" in run.stderr) == (2, True)


def writing(server: Server, name: str, rows: range, over: Event) -> tuple[set[str], set[int]]:
    """Until it is over: ingests ten items, deletes one of them, looks for two, deletes those of before.

    Returns the items that must be there, and the generations that answered.
    """
    there: set[str] = set()
    generations: set[int] = set()
    for start in itertools.cycle(rows[::10]):
        ids = [str(row) for row in range(start, start + 10)]
        items = [{"id": row, "vector": VECTORS[int(row)].tolist()} for row in ids]
        server.post("/ingest", {"collection": name, "items": items})
        seq = server.post(f"/collections/{name}/items/delete", {"ids": [ids[0], *there]})["seq"]
        there = set(ids[1:])
        queries = [query(row) | {"min_seq": seq} for row in ids[:2]]
        answers = server.post("/search", {"collection": name, "queries": queries})["results"]
        assert len({answer["generation"] for answer in answers}) == 1
        assert answers[0]["hits"][0]["id"] not in (ids[0], None)
        assert answers[1]["hits"][0]["id"] == ids[1]
        generations.add(answers[0]["generation"])
        if over.is_set():
            return there, generations
        time.sleep(0.02)  # jobs go after requests: let them end
    raise AssertionError("rows are not empty")


def query(row: str) -> dict[str, Any]:
    return {"vector": VECTORS[int(row)].tolist(), "k": 1, "oversample": 50, "include": []}


def test_a_training_and_the_way_back_while_four_clients_write_delete_and_search(server: Server, kept: Trained) -> None:
    name, first, over = kept.name, kept.result["generation"], Event()
    before = found(server, name)
    asked = {"training": {"epochs": 1, "seed": 3}, "contract": {"recall@10": 0.5}}
    with ThreadPoolExecutor(4) as clients:
        parts = [range(ITEMS + 1_000 * client, ITEMS + 1_000 * (client + 1)) for client in range(4)]
        writers = [clients.submit(writing, server, name, rows, over) for rows in parts]
        try:
            second = server.trained(name, **asked)["generation"]
            run = codewell(server, "rollback", "--collection", name)
        finally:
            over.set()
        written = [writer.result() for writer in writers]
    assert run.returncode == 0, run.stderr
    assert (last_json(run)["generation"], last_json(run)["before"]) == (first, second)
    there = sorted(set().union(*(rows for rows, _ in written)))
    assert set().union(*(generations for _, generations in written)) == {first, second}
    told = server.get(f"/collections/{name}")
    assert (told["items"], told["generation"]) == (ITEMS + 36, first)
    asked_for = [query(row) | {"min_seq": told["seq"]} for row in there]
    answers = server.post("/search", {"collection": name, "queries": asked_for})["results"]
    assert [answer["hits"][0]["id"] for answer in answers] == there
    states = {one["id"]: one["state"] for one in server.get(f"/collections/{name}/generations")["generations"]}
    assert (states[first], states[second]) == ("published", "kept")
    server.post(f"/collections/{name}/items/delete", {"ids": there})
    assert found(server, name) == before
