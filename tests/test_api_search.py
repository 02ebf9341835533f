"""POST /search: exact scores in a stable order, one question or many, while the collection changes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest

from models import Vectors
from tests.conftest import Server, clustered
from tests.test_api_problems import problem

BOOK = {"a": [1.0, 0.0, 0.0], "b": [3.0, 4.0, 0.0], "c": [0.0, 2.0, 0.0], "d": [-2.0, 0.0, 0.0], "e": [1.0, 1.0, 1.0]}


def book(server: Server, collection: str, metric: str) -> None:
    """A collection with the book's five vectors."""
    server.post("/collections", {"name": collection, "dimension": 3, "metric": metric}, 201)
    server.post("/ingest", {"collection": collection, "items": [{"id": i, "vector": v} for i, v in BOOK.items()]})


def found(answer: Any) -> list[tuple[str, float]]:
    """Ids and scores of an answer."""
    return [(hit["id"], hit["score"]) for hit in answer["hits"]]


def scores(query: Vectors, vectors: Vectors, metric: str) -> Vectors:
    """The definition, in float64."""
    query, vectors = query.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return np.asarray(-((vectors - query) ** 2).sum(axis=1))
    product = vectors @ query
    return np.asarray(product if metric == "ip" else product / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine", [("a", 0.6), ("b", 1.0), ("c", 0.8), ("d", -0.6), ("e", 7 / 5 / 3**0.5)]),
        ("ip", [("a", 3.0), ("b", 25.0), ("c", 8.0), ("d", -6.0), ("e", 7.0)]),
        ("l2", [("a", -20.0), ("b", 0.0), ("c", -13.0), ("d", -41.0), ("e", -14.0)]),
    ],
)
@pytest.mark.parametrize("index", ["faiss", "buckets", "exact"])
def test_scores_are_those_of_the_book(
    server: Server, name: str, metric: str, expected: list[tuple[str, float]], index: str
) -> None:
    book(server, name, metric)
    answer = server.post("/search", {"collection": name, "vector": [3, 4, 0], "index": index})
    assert (answer["generation"], answer["partial"], answer["partial_reason"]) == (None, False, None)
    assert answer["took_ms"] > 0
    wanted = sorted(expected, key=lambda pair: -pair[1])
    assert [item_id for item_id, _ in found(answer)] == [item_id for item_id, _ in wanted]
    np.testing.assert_allclose([score for _, score in found(answer)], [score for _, score in wanted], rtol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_before_training_the_answer_is_exact(server: Server, name: str, metric: str) -> None:
    vectors = clustered(600, 24, seed=1)
    server.post("/collections", {"name": name, "dimension": 24, "metric": metric}, 201)
    items = [{"id": f"{number:03}", "vector": vector.tolist()} for number, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    queries = clustered(8, 24, seed=2)
    for index in ("faiss", "exact"):
        asked = [{"collection": name, "vector": query.tolist(), "index": index, "k": 20} for query in queries]
        for query, answer in zip(queries, server.post("/search", {"queries": asked})["results"], strict=True):
            truth = scores(query, vectors, metric)
            best = np.argsort(-truth, kind="stable")[:20]
            assert [int(item_id) for item_id, _ in found(answer)] == best.tolist()
            np.testing.assert_allclose([score for _, score in found(answer)], truth[best], rtol=2e-5, atol=2e-5)


def test_by_text_by_item_and_by_vector(server: Server, name: str) -> None:
    texts = {"dog": "a dog barks at the postman", "dogs": "dogs bark at a postman", "rain": "rain falls on the sea"}
    server.post("/ingest", {"collection": name, "items": [{"id": i, "text": t} for i, t in texts.items()]})
    by_text = server.post("/search", {"collection": name, "text": "a dog barks at the postman"})
    assert [item_id for item_id, _ in found(by_text)] == ["dog", "dogs", "rain"]
    assert by_text["hits"][0]["score"] == pytest.approx(1, abs=1e-6)
    assert by_text["hits"][0]["text"] == texts["dog"]
    by_item = server.post("/search", {"collection": name, "id": "dog"})
    assert found(by_item) == found(by_text)[1:]
    assert (by_item["partial"], len(server.post("/search", {"collection": name, "id": "dog", "k": 1})["hits"])) == (
        False,
        1,
    )
    vector = server.get(f"/collections/{name}/items/dog?include=vector")["vector"]
    assert found(server.post("/search", {"collection": name, "vector": vector})) == found(by_text)


def test_include_says_what_a_hit_carries(server: Server, name: str) -> None:
    item = {"id": "a", "text": "words", "metadata": {"x": [1, {"y": None}]}, "vector": [0.5, 0.25]}
    server.post("/ingest", {"collection": name, "items": [item]})
    asked = {"collection": name, "vector": [1, 0]}
    (hit,) = server.post("/search", asked | {"include": ["vector"]})["hits"]
    assert (hit["text"], hit["metadata"], hit["vector"]) == (None, None, [0.5, 0.25])
    (hit,) = server.post("/search", asked | {"include": []})["hits"]
    assert (hit["id"], hit["text"], hit["metadata"], hit["vector"]) == ("a", None, None, None)
    (hit,) = server.post("/search", asked)["hits"]
    assert (hit["text"], hit["metadata"], hit["vector"]) == ("words", {"x": [1, {"y": None}]}, None)
    refused = server.client.post("/search", json=asked | {"include": ["vectors"]})
    problem(refused, 422, "include[0]", "'text', 'metadata', 'vector' or 'snippet'", "got 'vectors'")


@pytest.mark.parametrize("index", ["faiss", "buckets", "exact"])
@pytest.mark.parametrize("k", [5, 60])
def test_ties_come_in_the_order_of_their_ingest(server: Server, name: str, index: str, k: int) -> None:
    same = [{"id": f"{number:03}", "vector": [1, 2, 2]} for number in range(300)]
    server.post("/ingest", {"collection": name, "items": [{"id": "other", "vector": [2, 1, 2]}, *same]})
    asked = {"collection": name, "vector": [1, 2, 2], "k": k, "index": index}
    first = found(server.post("/search", asked))
    assert first == [(f"{number:03}", 1.0) for number in range(k)]
    server.post(f"/collections/{name}/items/delete", {"ids": ["001"]})
    server.post("/ingest", {"collection": name, "items": [{"id": "001", "vector": [1, 2, 2]}]})
    again = [item_id for item_id, _ in found(server.post("/search", asked))]
    assert again == [f"{number:03}" for number in (0, *range(2, k + 1))]


def test_fewer_items_than_wanted_is_not_partial(server: Server, name: str) -> None:
    book(server, name, "l2")
    answer = server.post("/search", {"collection": name, "vector": [0, 0, 0], "k": 1000})
    assert [item_id for item_id, _ in found(answer)] == ["a", "e", "c", "d", "b"]
    assert (answer["partial"], answer["partial_reason"]) == (False, None)
    empty = f"{name}-empty"
    server.post("/collections", {"name": empty, "dimension": 2}, 201)
    answer = server.post("/search", {"collection": empty, "vector": [1, 0]})
    assert (answer["hits"], answer["partial"]) == ([], False)


def test_a_batch_mixes_collections_dimensions_and_plans(server: Server, name: str) -> None:
    book(server, f"{name}-l2", "l2")
    book(server, f"{name}-ip", "ip")
    server.post("/ingest", {"collection": f"{name}-text", "items": [{"id": "t", "text": "an old oak"}]})
    server.client.put(f"/aliases/{name}-alias", json={"collection": f"{name}-l2"})
    results = server.post(
        "/search",
        {
            "queries": [
                {"collection": f"{name}-l2", "vector": [3, 4, 0], "k": 2},
                {"collection": f"{name}-text", "text": "oak", "include": ["text", "vector"]},
                {"collection": f"{name}-ip", "vector": [3, 4, 0], "k": 1, "index": "exact"},
                {"collection": f"{name}-l2", "id": "a", "k": 2, "index": "buckets", "include": []},
                {"collection": f"{name}-l2", "vector": [3, 4, 0], "k": 2, "stage": "refine", "include": ["vector"]},
                {"collection": f"{name}-alias", "vector": [1, 0, 0], "k": 1, "stage": "shortlist"},
            ]
        },
    )["results"]
    assert [[item_id for item_id, _ in found(one)] for one in results] == [
        ["b", "c"],
        ["t"],
        ["b"],
        ["e", "c"],
        ["b", "c"],
        ["a"],
    ]
    assert found(results[0]) == found(results[4]) == [("b", 0.0), ("c", -13.0)]
    assert found(results[3]) == [("e", -2.0), ("c", -5.0)]
    assert len(results[1]["hits"][0]["vector"]) == 2048
    assert results[0]["hits"][0]["vector"] is None
    assert results[4]["hits"][0]["vector"] == [3, 4, 0]


def test_a_bad_query_of_a_batch_is_named(server: Server, name: str) -> None:
    book(server, name, "cosine")
    good = {"collection": name, "vector": [1, 0, 0]}
    for bad, field, words in [
        (good | {"vector": [1, 0]}, "queries[1].vector", "vectors of 3 numbers, this one has 2"),
        (good | {"vector": [0, 0, 0]}, "queries[1].vector", "zero vector"),
        ({"collection": name}, "queries[1].text", "exactly one of text, vector and id, not none"),
        (good | {"text": "x"}, "queries[1].text", "not ['text', 'vector']"),
        ({"collection": name, "text": "x"}, "queries[1].text", "takes vectors only"),
        (good | {"k": 1001}, "queries[1].k", "1001 is more than the 1000"),
    ]:
        problem(server.client.post("/search", json={"queries": [good, bad]}), 422, field, words)
    missing = server.client.post("/search", json={"queries": [good, {"collection": name, "id": "zzz"}]})
    problem(missing, 404, "queries[1].id", "'zzz'")
    both = server.client.post("/search", json={"queries": [good], "k": 3})
    problem(both, 422, "k", "each query carries its own fields")
    problem(server.client.post("/search", json={"queries": []}), 422, "queries", "send 1 to 10000")
    unknown = server.client.post("/search", json={"queries": [good, good | {"collection": f"{name}-no"}]})
    problem(unknown, 404, "queries[1].collection", f"{name}-no")


def test_deletes_while_searching(server: Server, name: str) -> None:
    vectors = clustered(400, 8, seed=3)
    items = [{"id": f"{number}", "vector": vector.tolist()} for number, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    done = Event()

    def search() -> int:
        searches = 0
        while not done.is_set() or not searches:
            gone = set(deleted)
            for index in ("faiss", "buckets", "exact"):
                asked = {"collection": name, "vector": vectors[0].tolist(), "k": 20, "index": index}
                answer = server.post("/search", asked)
                assert not gone & {hit["id"] for hit in answer["hits"]}
                assert answer["partial"] == (answer["partial_reason"] is not None) == (len(answer["hits"]) < 20)
                searches += 1
        return searches

    deleted: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        searching = [pool.submit(search) for _ in range(3)]
        for start in range(0, 360, 6):
            ids = [f"{number}" for number in range(start, start + 6)]
            assert server.post(f"/collections/{name}/items/delete", {"ids": ids})["deleted"] == ids
            deleted.extend(ids)
        done.set()
        assert all(one.result() > 3 for one in searching)
    left = server.post("/search", {"collection": name, "vector": vectors[0].tolist(), "k": 1000})
    assert {hit["id"] for hit in left["hits"]} == {f"{number}" for number in range(360, 400)}


def test_an_alias_moved_while_searching_shows_one_or_the_other(server: Server, name: str) -> None:
    for side, vector in (("x", [1, 0]), ("y", [1, 1])):
        items = [{"id": f"{side}{number}", "vector": vector} for number in range(10)]
        server.post("/ingest", {"collection": f"{name}-{side}", "items": items})
    alias = f"/aliases/{name}-live"
    server.client.put(alias, json={"collection": f"{name}-x"})
    done = Event()

    def search() -> set[str]:
        seen = set()
        while not done.is_set():
            hits = server.post("/search", {"collection": f"{name}-live", "vector": [1, 0]})["hits"]
            sides = {hit["id"][0] for hit in hits}
            assert (len(hits), len(sides)) == (10, 1)
            seen |= sides
        return seen

    with ThreadPoolExecutor(2) as pool:
        searching = [pool.submit(search) for _ in range(2)]
        for turn in range(40):
            moved = server.client.put(alias, json={"collection": f"{name}-{'yx'[turn % 2]}"})
            assert moved.json()["aliases"][f"{name}-live"] == f"{name}-{'yx'[turn % 2]}"
        done.set()
        assert set().union(*(one.result() for one in searching)) == {"x", "y"}
