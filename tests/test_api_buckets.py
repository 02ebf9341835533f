"""The index buckets over HTTP: how far a request lets it look, and what the answer says of that."""

from collections.abc import Mapping

from tests.conftest import Server, clustered
from tests.test_api_problems import problem

DIM = 8
VECTORS = clustered(2_000, DIM, seed=5)


def test_probes_bound_the_look_and_the_answer_tells_it(server: Server, name: str) -> None:
    items = [
        {"id": str(row), "vector": vector.tolist(), "metadata": {"n": row % 4}} for row, vector in enumerate(VECTORS)
    ]
    server.post("/ingest", {"collection": name, "items": items})
    server.trained(name, codec={"bytes": 4}, training={"epochs": 1})
    asked = {"collection": name, "vector": VECTORS[7].tolist(), "k": 5, "index": "buckets", "profile": True}
    default, few, many = (server.post("/search", asked | more) for more in ({}, {"probes": 8}, {"probes": 100_000}))
    assert [default["hits"][0]["id"], few["hits"][0]["id"], many["hits"][0]["id"]] == ["7"] * 3
    assert default["buckets"]["candidates"] == default["profile"]["counts"]["codes"] == 256
    assert (few["buckets"]["tables"], few["buckets"]["probes"], few["profile"]["counts"]["buckets"]) == (4, 8, 8)
    assert 0 < few["buckets"]["candidates"] < 1_000
    assert few["buckets"]["radius"] == 0
    assert (many["buckets"]["candidates"], many["buckets"]["radius"], many["partial"]) == (2_000, 10, False)
    within = server.post("/search", asked | {"probes": 100_000, "filter": {"n": 3}})
    assert within["buckets"]["candidates"] == 500
    assert within["hits"][0]["id"] == "7"
    server.post(f"/collections/{name}/items/delete", {"ids": ["7"]})
    assert server.post("/search", asked | {"probes": 100_000})["buckets"]["candidates"] == 1_999
    one = server.post("/search", asked | {"probes": 1, "k": 500})
    assert (one["partial"], len(one["hits"])) == (True, one["buckets"]["candidates"])
    assert one["partial_reason"].endswith("ask for more probes, or try the index faiss")
    plain = server.post("/search", {"collection": name, "vector": VECTORS[7].tolist()})
    assert plain["buckets"] is None


def test_each_of_many_questions_is_told_its_own(server: Server, name: str) -> None:
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(VECTORS[:600])]
    server.post("/ingest", {"collection": name, "items": items})
    asked = [{"collection": name, "vector": VECTORS[row].tolist(), "k": 1} for row in range(3)]
    probes = [asked[0] | {"index": "buckets", "probes": 5}, asked[1], asked[2] | {"index": "buckets", "probes": 9}]
    results = server.post("/search", {"queries": probes})["results"]
    assert [one["buckets"] and one["buckets"]["probes"] for one in results] == [5, None, 9]
    assert [one["hits"][0]["id"] for one in results] == ["0", "1", "2"]


def test_bad_probes_are_refused_by_name(server: Server, name: str) -> None:
    def refused(field: str, words: str, body: Mapping[str, object]) -> None:
        problem(server.client.post("/search", json=body), 422, field, words)

    query: dict[str, object] = {"collection": name, "vector": [1, 0], "index": "buckets"}
    refused("probes", "greater than or equal to 1", query | {"probes": 0})
    refused("probes", "less than or equal to 262144", query | {"probes": 262_145})
    refused("probes", "valid integer", query | {"probes": "many"})
    refused("probes", "the index faiss has no buckets", query | {"index": "faiss", "probes": 4})
    refused("probes", "the index exact has no buckets", query | {"index": "exact", "probes": 4})
    refused("queries[1].probes", "the index faiss has no buckets", {"queries": [query, {"text": "a", "probes": 4}]})
