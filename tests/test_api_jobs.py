"""Training over HTTP: asked for, automatic, cancelled, refused; search and ingest go on throughout."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest

from models import Vectors
from tests.conftest import Server, clustered
from tests.test_api_problems import problem

LONG = {
    "codec": {"bytes": 2, "decoder_hidden": [2048, 1024]},
    "training": {"epochs": 10_000, "learning_rate": 1e-4},
}
"""Gets a little better every epoch, and so goes on for minutes."""
SHORT = {"training": {"epochs": 2}}


def fill(server: Server, collection: str, vectors: Vectors) -> None:
    """Ingests the rows by number."""
    items = [{"id": f"{number}", "vector": vector.tolist()} for number, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": collection, "items": items})


def running(server: Server, job_id: str) -> Any:
    """The job once it runs."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        job = server.get(f"/jobs/{job_id}")
        if job["state"] == "running" and job["progress"] > 0:
            return job
        assert job["state"] in ("queued", "running"), job
        time.sleep(0.05)
    raise AssertionError(f"the job did not start: {job}")


def recall(server: Server, collection: str, queries: Vectors, **plan: Any) -> float:
    """Share of the exact ten best that are found."""
    asked = [{"collection": collection, "vector": query.tolist(), "include": []} for query in queries]
    found = server.post("/search", {"queries": [one | plan for one in asked]})["results"]
    exact = server.post("/search", {"queries": [one | {"index": "exact"} for one in asked]})["results"]
    shares = [
        len({hit["id"] for hit in one["hits"]} & {hit["id"] for hit in other["hits"]}) / 10
        for one, other in zip(found, exact, strict=True)
    ]
    return float(np.mean(shares))


def test_a_collection_trains_itself_and_serves_all_the_while(new_server: Callable[..., Server]) -> None:
    server = new_server(TRAIN_AT="200")
    vectors, late, moved = clustered(190, 16), clustered(2000, 16, seed=5), clustered(40, 16, seed=6)
    fill(server, "c", vectors)
    server.post(
        "/ingest", {"collection": "c", "items": [{"id": f"gone{n}", "vector": vectors[n].tolist()} for n in range(5)]}
    )
    first = server.post("/search", {"collection": "c", "vector": vectors[7].tolist(), "k": 3})
    cosines = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[7])
    assert (first["generation"], server.get("/jobs")["jobs"]) == (None, [])
    assert [hit["score"] for hit in first["hits"]] == pytest.approx(np.sort(cosines)[::-1][:3].tolist(), abs=1e-6)
    done = Event()

    def search() -> set[int | None]:
        generations = set()
        while not done.is_set():
            for index in ("faiss", "buckets", "exact"):
                asked = {"collection": "c", "vector": vectors[3].tolist(), "index": index, "k": 5}
                answer = server.post("/search", asked)
                assert answer["hits"][0]["id"] in ("3", "gone3")
                assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-6)
                generations.add(answer["generation"])
                time.sleep(0.01)  # the training goes after searches: let it end
        return generations

    with ThreadPoolExecutor(2) as pool:
        searching = [pool.submit(search) for _ in range(2)]
        written, end = 0, time.monotonic() + 60
        while server.get("/collections/c")["generation"] is None:
            assert time.monotonic() < end, server.log.read_text()
            batch = [{"id": f"late{n}", "vector": late[n].tolist()} for n in range(written, min(written + 10, 2000))]
            written += len(batch)
            if batch:
                assert server.post("/ingest", {"collection": "c", "items": batch})["counts"]["inserted"] == len(batch)
            turn = written // 10
            if turn % 4 == 0 and turn // 4 < 40:
                number = turn // 4
                item = {"id": f"{100 + number}", "vector": moved[number].tolist(), "metadata": {"moved": True}}
                assert server.post("/ingest", {"collection": "c", "items": [item]})["counts"]["updated"] == 1
                server.client.delete(f"/collections/c/items/gone{number}")
            time.sleep(0.02)
        done.set()
        assert None in set().union(*(one.result() for one in searching))

    (job,) = server.get("/jobs")["jobs"]
    assert (job["kind"], job["collection"], server.finished(job["id"])["state"]) == ("train", "c", "succeeded")
    assert job["started_at"] is not None
    assert written > 50
    generation = server.get("/collections/c")["generation"]
    asked, end = {"collection": "c", "vector": vectors[3].tolist()}, time.monotonic() + 20
    while server.post("/search", asked)["generation"] != generation:  # a process serves the old one while it loads
        assert time.monotonic() < end, server.log.read_text()
    last_moved = min(written // 40, 39)
    for number in {0, 1, written // 2, written - 1}:
        answer = server.post("/search", {"collection": "c", "vector": late[number].tolist(), "k": 1})
        assert (answer["hits"][0]["id"], answer["generation"]) == (f"late{number}", generation)
    for number in range(1, last_moved + 1):
        answer = server.post("/search", {"collection": "c", "vector": moved[number].tolist(), "k": 1})
        assert (answer["hits"][0]["id"], answer["hits"][0]["metadata"]) == (f"{100 + number}", {"moved": True})
        was = server.post("/search", {"collection": "c", "vector": vectors[100 + number].tolist(), "k": 1})
        assert was["hits"][0]["score"] < 0.99999
    gone = [f"gone{number}" for number in range(1, min(last_moved, 4) + 1)]
    everything = server.post("/search", {"collection": "c", "vector": vectors[3].tolist(), "k": 1000})
    assert not set(gone) & {hit["id"] for hit in everything["hits"]}
    assert recall(server, "c", clustered(50, 16, seed=7)) >= 0.95


CODECS = {
    "hidden": ("cosine", {"bytes": 6, "hidden": [24], "decoder_hidden": [], "corruption": {"kind": "none"}}),
    "masking": ("ip", {"latents": 8, "latent_type": "int8", "hidden": [32, 16], "corruption": {"kind": "masking"}}),
    "variational": ("cosine", {"kind": "variational", "bytes": 16, "beta": 0.1}),
    "sparse": ("cosine", {"kind": "sparse", "k": 12, "latents": 96}),
    "binary": ("cosine", {"kind": "binary", "bytes": 32}),
    "residual": ("cosine", {"kind": "residual", "bytes": 6}),
    "faiss": ("l2", {"kind": "faiss", "factory": "OPQ4_8,PQ4x8"}),
    "salt": ("l2", {"latents": 24, "latent_type": "float16", "corruption": {"kind": "salt-and-pepper", "level": 0.05}}),
}


@pytest.mark.parametrize(("metric", "codec"), CODECS.values(), ids=CODECS.keys())
def test_every_codec_trains_and_is_searched(server: Server, name: str, metric: str, codec: Any) -> None:
    vectors = clustered(1500, 16, seed=8)
    server.post("/collections", {"name": name, "dimension": 16, "metric": metric, "codec": codec}, 201)
    fill(server, name, vectors)
    result = server.trained(name, **SHORT)
    described = server.get(f"/collections/{name}")
    assert (described["generation"], described["certificate"]) == (result["generation"], result["certificate"])
    low = described["certificate"]["intervals"]["recall@10"]["low"]
    assert server.metrics()[f'codewell_certificate_recall_ratio{{collection="{name}",k="10"}}'] == low
    certified = result["certificate"]["codec"]
    assert all(certified[key] == codec[key] for key in set(codec) - {"bytes", "corruption"})
    assert codec.get("corruption", {}).items() <= certified.get("corruption", {}).items()

    queries = clustered(50, 16, seed=9)
    assert recall(server, name, queries) >= 0.95
    assert recall(server, name, queries, index="buckets") >= 0.9
    assert 0.3 < recall(server, name, queries, stage="shortlist") <= recall(server, name, queries)
    asked = {"collection": name, "vector": vectors[5].tolist(), "k": 3, "include": []}
    exact = server.post("/search", asked | {"index": "exact"})["hits"]
    found = server.post("/search", asked)["hits"]
    assert [hit["id"] for hit in found] == [hit["id"] for hit in exact]
    assert [hit["score"] for hit in found] == pytest.approx([hit["score"] for hit in exact], rel=1e-6)

    longest = (vectors[6] * 10).tolist()  # the nearest of all under each metric but l2, where it is asked for itself
    server.post("/ingest", {"collection": name, "items": [{"id": "5", "vector": longest}]})
    assert server.post("/search", asked | {"vector": longest, "k": 1})["hits"][0]["id"] in ("5", "6")
    assert "5" in {hit["id"] for hit in server.post("/search", asked | {"vector": longest})["hits"]}
    server.post(f"/collections/{name}/items/delete", {"ids": ["5", "6"]})
    left = {hit["id"] for hit in server.post("/search", asked | {"vector": longest, "k": 1000})["hits"]}
    assert (len(left), {"5", "6"} & left) == (1000, set())


def test_too_few_items_to_train_on(server: Server, name: str) -> None:
    fill(server, name, clustered(99, 4))
    answer = server.client.post(f"/collections/{name}/train")
    problem(answer, 409, "collection", "99 items", "needs 100")
    assert server.get(f"/jobs?collection={name}")["jobs"] == []


def test_jobs_are_queued_refused_and_cancelled(server: Server, name: str) -> None:
    vectors = clustered(300, 16, seed=11)
    first, second = f"{name}-1", f"{name}-2"
    fill(server, first, vectors)
    fill(server, second, vectors)
    job = server.post(f"/collections/{first}/train", LONG, 202)
    assert (job["state"], job["kind"], job["collection"], job["progress"]) == ("queued", "train", first, 0)
    waiting = server.post(f"/collections/{second}/train", LONG, 202)
    assert "epoch" in running(server, job["id"])["message"]
    problem(server.client.post(f"/collections/{first}/train"), 409, None, job["id"], f"DELETE /jobs/{job['id']}")
    problem(server.client.post(f"/collections/{second}/train"), 409, None, waiting["id"])
    assert [one["id"] for one in server.get("/jobs")["jobs"][:2]] == [waiting["id"], job["id"]]
    assert [one["id"] for one in server.get(f"/jobs?collection={first}")["jobs"]] == [job["id"]]
    # The index is not waited for: search answers exactly meanwhile.
    answer = server.post("/search", {"collection": first, "vector": vectors[4].tolist(), "k": 1})
    assert (answer["hits"][0]["id"], answer["generation"]) == ("4", None)

    cancelled = server.client.delete(f"/jobs/{waiting['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert cancelled["finished_at"] is not None
    assert server.client.delete(f"/jobs/{job['id']}").status_code == 200
    ended = server.finished(job["id"], 15)
    assert (ended["state"], ended["message"], ended["result"]) == ("cancelled", "cancelled", None)
    assert server.client.delete(f"/jobs/{job['id']}").json() == ended
    assert server.get(f"/collections/{first}")["generation"] is None


def test_a_deleted_collection_takes_its_job_along(server: Server, name: str) -> None:
    fill(server, name, clustered(300, 16))
    job = server.post(f"/collections/{name}/train", LONG, 202)
    running(server, job["id"])
    assert server.client.delete(f"/collections/{name}").status_code == 204
    problem(server.client.get(f"/jobs/{job['id']}"), 404, "id", job["id"])
    problem(server.client.delete(f"/jobs/{job['id']}"), 404, "id", job["id"])
    problem(server.client.get(f"/jobs?collection={name}"), 404, "collection", name)
    # The one place for a job is free again: the next collection of that name trains and is not disturbed.
    fill(server, name, clustered(120, 4))
    assert server.trained(name, **SHORT)["certificate"]["codec"]["kind"] == "dense"


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"codec": {"byte": 4}}, "codec.byte", "not permitted"),
        ({"codec": {"kind": "residue"}}, "codec.kind", "'dense'"),
        ({"codec": {"kind": "faiss"}}, "codec.factory", "Field required"),
        ({"codec": {"kind": "faiss", "factory": "IVF9,PQ8x8"}}, "codec.factory", "allowed: an optional OPQm_d, PCAd"),
        ({"codec": {"kind": "faiss", "factory": "PQ3x8"}}, "codec.factory", "does not divide"),
        ({"codec": {"kind": "faiss", "factory": "PQ8x8", "bytes": 8}}, "codec.bytes", "not permitted"),
        ({"codec": {"hidden": [0]}}, "codec.hidden", "[0]"),
        ({"codec": {"hidden": [1] * 5}}, "codec.hidden", "4"),
        ({"codec": {"latents": 0}}, "codec.latents", "greater than or equal to 1"),
        ({"codec": {"latent_type": "int2"}}, "codec.latent_type", "int4"),
        ({"codec": {"corruption": {"kind": "blur"}}}, "codec.corruption.kind", "salt-and-pepper"),
        ({"codec": {"corruption": {"kind": "masking", "level": 1.5}}}, "codec.corruption.level", "between 0 and 1"),
        ({"training": {"epochs": 0}}, "training.epochs", "greater than or equal to 1"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate", "greater than 0"),
        ({"training": {"seed": -1}}, "training.seed", "greater than or equal to 0"),
        ({"trainings": {}}, "trainings", "not permitted"),
    ],
)
def test_a_bad_training_is_refused_by_field(server: Server, body: Any, field: str, words: str) -> None:
    server.client.post("/collections", json={"name": "bad_training", "dimension": 4})
    problem(server.client.post("/collections/bad_training/train", json=body), 422, field, words)


def test_unknown_jobs_and_collections(server: Server, name: str) -> None:
    problem(server.client.get(f"/jobs/{name}"), 404, "id", name, "GET /jobs")
    problem(server.client.delete(f"/jobs/{name}"), 404, "id", name)
    problem(server.client.post(f"/collections/{name}/train"), 404, "collection", name)
