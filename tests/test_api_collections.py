"""Collections and aliases over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Server
from tests.test_api_problems import problem


def names(server: Server) -> list[str]:
    """Of all collections."""
    return [one["name"] for one in server.get("/collections")["collections"]]


def test_a_collection_from_making_to_deletion(server: Server, name: str) -> None:
    codec = {"bytes": 8, "hidden": [16], "corruption": {"kind": "masking", "level": 0.2}}
    made = server.post("/collections", {"name": name, "dimension": 4, "metric": "l2", "codec": codec}, 201)
    assert {key: made[key] for key in ("name", "dimension", "metric", "encoder", "items", "seq", "aliases")} == {
        "name": name,
        "dimension": 4,
        "metric": "l2",
        "encoder": None,
        "items": 0,
        "seq": 0,
        "aliases": [],
    }
    assert (made["generation"], made["certificate"]) == (None, None)
    assert (made["codec"]["bytes"], made["codec"]["hidden"]) == (8, [16])
    assert made["codec"]["corruption"] == {"kind": "masking", "level": 0.2}
    assert server.get(f"/collections/{name}") == made
    assert made in server.get("/collections")["collections"]
    assert names(server) == sorted(names(server))
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 2, 3, 4]}]})
    described = server.get(f"/collections/{name}")
    assert (described["items"], described["seq"]) == (1, 1)

    assert server.client.delete(f"/collections/{name}").status_code == 204
    problem(server.client.get(f"/collections/{name}"), 404, "collection", name)
    problem(server.client.delete(f"/collections/{name}"), 404, "collection", name)
    problem(server.client.post("/search", json={"collection": name, "vector": [1]}), 404, "collection", name)
    problem(server.client.get(f"/collections/{name}/items/a"), 404, "collection", name)
    assert name not in names(server)


def test_a_collection_made_again_is_empty_and_may_be_another_shape(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0]}]})
    server.post("/search", {"collection": name, "vector": [1, 0]})
    server.client.delete(f"/collections/{name}")
    server.post("/ingest", {"collection": name, "items": [{"id": "b", "vector": [1, 0, 0]}]})
    hits = server.post("/search", {"collection": name, "vector": [1, 0, 0]})["hits"]
    assert [(hit["id"], hit["score"]) for hit in hits] == [("b", 1.0)]
    described = server.get(f"/collections/{name}")
    assert (described["dimension"], described["items"], described["seq"]) == (3, 1, 1)


def test_an_encoder_brings_its_dimension(server: Server, name: str) -> None:
    made = server.post("/collections", {"name": name, "encoder": "tfidf", "metric": "ip"}, 201)
    assert (made["dimension"], made["encoder"], made["metric"]) == (2048, "tfidf", "ip")
    wrong = {"name": f"{name}-2", "encoder": "tfidf", "dimension": 3}
    problem(server.client.post("/collections", json=wrong), 422, "dimension", "2048")
    unknown = server.client.post("/collections", json={"name": f"{name}-3", "encoder": "word2vec"})
    problem(unknown, 422, "encoder", "'word2vec'", "tfidf")


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "name", "required"),
        ({"name": "x"}, "dimension", "give a dimension, or an encoder"),
        ({"name": "x", "dimension": 0}, "dimension", "greater than or equal to 1"),
        ({"name": "x", "dimension": 16_385}, "dimension", "16384"),
        ({"name": "x", "dimension": 10**400}, "dimension", "16384"),
        ({"name": "x", "dimension": 2, "metric": "manhattan"}, "metric", "'cosine', 'ip' or 'l2'"),
        ({"name": "a/b", "dimension": 2}, "name", "pattern"),
        ({"name": "", "dimension": 2}, "name", "pattern"),
        ({"name": "x" * 129, "dimension": 2}, "name", "pattern"),
        ({"name": "x\n", "dimension": 2}, "name", "pattern"),
        ({"name": "x", "dimension": 2, "codec": {"bytes": 0}}, "codec.bytes", "greater than or equal to 1"),
        ({"name": "x", "dimension": 2, "codec": {"kind": "residue"}}, "codec.kind", "'dense'"),
        ({"name": "x", "dimension": 2, "codec": {"hidden": [0]}}, "codec.hidden", "[0]"),
        (
            {"name": "x", "dimension": 2, "codec": {"corruption": {"kind": "masking", "level": 5}}},
            "codec.corruption.level",
            "between 0 and 1",
        ),
    ],
)
def test_a_bad_collection_is_refused_by_field(server: Server, body: Any, field: str, words: str) -> None:
    problem(server.client.post("/collections", json=body), 422, field, words)
    assert "x" not in names(server)


def test_a_name_is_taken_once(server: Server, name: str) -> None:
    server.post("/collections", {"name": name, "dimension": 2}, 201)
    problem(server.client.post("/collections", json={"name": name, "dimension": 3}), 409, "name", name)
    problem(server.client.put(f"/aliases/{name}", json={"collection": name}), 409, "alias", name)
    server.client.put(f"/aliases/{name}-a", json={"collection": name})
    problem(server.client.post("/collections", json={"name": f"{name}-a", "dimension": 3}), 409, "name", f"{name}-a")
    assert server.get(f"/collections/{name}")["dimension"] == 2


def test_of_eight_that_make_one_collection_one_succeeds(server: Server, name: str) -> None:
    def make(dimension: int) -> int:
        body = {"name": name, "dimension": dimension}
        return server.client.post("/collections", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(make, range(1, 9)))
    assert sorted(answers) == [201] + [409] * 7
    assert server.get(f"/collections/{name}")["dimension"] == answers.index(201) + 1


def test_eight_first_ingests_make_one_collection(server: Server, name: str) -> None:
    def ingest(number: int) -> Any:
        body = {"collection": name, "items": [{"id": f"{number}", "vector": [1, number]}]}
        return server.post("/ingest", body)["counts"]["inserted"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ingest, range(8))) == [1] * 8
    assert server.get(f"/collections/{name}")["items"] == 8
    hits = server.post("/search", {"collection": name, "vector": [1, 0]})["hits"]
    assert [hit["id"] for hit in hits] == [f"{number}" for number in range(8)]


def test_ingest_while_the_collection_is_deleted(server: Server, name: str) -> None:
    def ingest(writer: int) -> None:
        for turn in range(15):
            items = [{"id": f"{writer}-{turn}-{number}", "vector": [1, number]} for number in range(5)]
            answer = server.client.post("/ingest", json={"collection": name, "items": items})
            if answer.status_code != 200:
                problem(answer, 404, "collection", name)
            found = server.client.post("/search", json={"collection": name, "vector": [1, 0]})
            if found.status_code != 200:
                problem(found, 404, "collection", name)

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(ingest, writer) for writer in range(4)]
        while not all(one.done() for one in writing):
            assert server.client.delete(f"/collections/{name}").status_code in (204, 404)
        for one in writing:
            one.result()
    server.client.delete(f"/collections/{name}")
    server.post("/ingest", {"collection": name, "items": [{"id": "last", "vector": [1, 0]}]})
    hits = server.post("/search", {"collection": name, "vector": [1, 0], "k": 100})["hits"]
    assert [hit["id"] for hit in hits] == ["last"]


def test_an_alias_is_another_name(server: Server, name: str) -> None:
    first, second, alias = f"{name}-1", f"{name}-2", f"{name}-live"
    server.post("/ingest", {"collection": first, "items": [{"id": "old", "vector": [1, 0]}]})
    server.post("/ingest", {"collection": second, "items": [{"id": "new", "vector": [1, 0]}]})
    assert server.client.put(f"/aliases/{alias}", json={"collection": first}).json()["aliases"][alias] == first
    asked = {"collection": alias, "vector": [1, 0]}
    assert [hit["id"] for hit in server.post("/search", asked)["hits"]] == ["old"]
    assert (server.get(f"/collections/{alias}")["name"], server.get(f"/collections/{first}")["aliases"]) == (
        first,
        [alias],
    )
    assert (
        server.post("/ingest", {"collection": alias, "items": [{"id": "x", "vector": [0, 1]}]})["collection"] == first
    )
    assert server.get(f"/collections/{alias}/items/x")["id"] == "x"

    server.client.put(f"/aliases/{alias}", json={"collection": second})
    assert server.get("/aliases")["aliases"][alias] == second
    assert [hit["id"] for hit in server.post("/search", asked)["hits"]] == ["new"]
    problem(server.client.put(f"/aliases/{alias}", json={"collection": f"{name}-no"}), 404, "collection", f"{name}-no")
    problem(server.client.put("/aliases/a b", json={"collection": first}), 422, "alias", "pattern")
    answer = server.client.delete(f"/collections/{alias}")
    problem(answer, 409, "collection", alias, f"DELETE /collections/{second}")
    assert server.client.delete(f"/aliases/{alias}").status_code == 204
    problem(server.client.delete(f"/aliases/{alias}"), 404, "alias", alias, "GET /aliases")
    problem(server.client.post("/search", json=asked), 404, "collection", alias)
    assert server.get(f"/collections/{second}")["items"] == 1


def test_an_alias_goes_with_its_collection(server: Server, name: str) -> None:
    server.post("/collections", {"name": name, "dimension": 2}, 201)
    server.client.put(f"/aliases/{name}-a", json={"collection": name})
    server.client.delete(f"/collections/{name}")
    assert f"{name}-a" not in server.get("/aliases")["aliases"]
    server.post("/collections", {"name": f"{name}-a", "dimension": 3}, 201)
