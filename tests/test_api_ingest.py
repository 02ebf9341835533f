"""POST /ingest as JSON: what is kept, what is counted, what is refused."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tests.conftest import Server
from tests.test_api_problems import post_raw, problem


def nearest(server: Server, collection: str, vector: list[float], k: int = 1) -> list[str]:
    """Ids of the nearest items."""
    hits = server.post("/search", {"collection": collection, "vector": vector, "k": k})["hits"]
    return [hit["id"] for hit in hits]


def test_counts_and_results(server: Server, name: str) -> None:
    first = server.post(
        "/ingest",
        {
            "collection": name,
            "items": [{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1], "metadata": {"n": 1}}],
        },
    )
    assert (first["collection"], first["seq"]) == (name, 2)
    assert first["counts"] == {"inserted": 2, "updated": 0, "unchanged": 0, "rejected": 0}
    items: list[Any] = [
        {"id": "b", "vector": [0, 1], "metadata": {"n": 1}},
        {"id": "a", "vector": [-1, 0]},
        {"id": "c", "vector": [1, 1]},
        {"id": "d", "vector": [1, 2, 3]},
        7,
    ]
    second = server.post("/ingest", {"collection": name, "items": items})
    assert second["seq"] == 4
    assert second["counts"] == {"inserted": 1, "updated": 1, "unchanged": 1, "rejected": 2}
    assert [(one["id"], one["status"]) for one in second["results"]] == [
        ("b", "unchanged"),
        ("a", "updated"),
        ("c", "inserted"),
        ("d", "rejected"),
        (None, "rejected"),
    ]
    assert [one["error"] is None for one in second["results"]] == [True, True, True, False, False]
    assert second["results"][3]["error"] == {
        "title": "Dimension mismatch",
        "field": "items[3].vector",
        "detail": "the collection takes vectors of 2 numbers, this one has 3",
    }
    assert second["results"][4]["error"]["field"] == "items[4]"
    assert nearest(server, name, [-1, 0.1]) == ["a"]
    assert server.get(f"/collections/{name}")["items"] == 3


def test_an_upsert_replaces_text_metadata_and_vector(server: Server, name: str) -> None:
    old = {"id": "a", "text": "a green apple", "metadata": {"x": 1, "y": 2}}
    server.post("/ingest", {"collection": name, "items": [old, {"id": "b", "text": "a river in flood"}]})
    was = server.get(f"/collections/{name}/items/a")
    server.post(
        "/ingest", {"collection": name, "items": [{"id": "a", "text": "two steam trains", "metadata": {"z": 3}}]}
    )
    now = server.get(f"/collections/{name}/items/a")
    assert (now["text"], now["metadata"]) == ("two steam trains", {"z": 3})
    assert now["created_at"] == was["created_at"] < now["updated_at"]
    best = server.post("/search", {"collection": name, "text": "steam trains", "k": 1})["hits"][0]
    assert (best["id"], best["text"], best["metadata"]) == ("a", "two steam trains", {"z": 3})
    apple = server.post("/search", {"collection": name, "text": "a green apple"})["hits"]
    assert all(hit["score"] < 0.5 for hit in apple)


def test_new_metadata_alone_is_an_update(server: Server, name: str) -> None:
    item = {"id": "a", "text": "one", "metadata": {"x": 1, "y": [1, {"z": None}]}}
    server.post("/ingest", {"collection": name, "items": [item]})
    same = {"id": "a", "text": "one", "metadata": {"y": [1, {"z": None}], "x": 1}}
    assert server.post("/ingest", {"collection": name, "items": [same]})["counts"]["unchanged"] == 1
    answer = server.post("/ingest", {"collection": name, "items": [{"id": "a", "text": "one", "metadata": {"x": 2}}]})
    assert (answer["counts"]["updated"], answer["seq"]) == (1, 2)
    assert server.get(f"/collections/{name}/items/a")["metadata"] == {"x": 2}


def test_ids_are_made_where_none_is_given(server: Server, name: str) -> None:
    answer = server.post("/ingest", {"collection": name, "items": [{"vector": [1, 0]}, {"id": None, "vector": [1, 0]}]})
    first, second = (result["id"] for result in answer["results"])
    assert first != second
    assert sorted(nearest(server, name, [1, 0], k=5)) == sorted([first, second])


def test_a_whole_number_is_an_id(server: Server, name: str) -> None:
    items = [
        {"id": 7, "vector": [1, 0]},
        {"id": -12, "vector": [1, 1]},
        {"id": True, "vector": [1, 0]},
        {"id": 1.5, "vector": [1, 0]},
    ]
    answer = server.post("/ingest", {"collection": name, "items": items})
    assert [(result["id"], result["status"]) for result in answer["results"]] == [
        ("7", "inserted"),
        ("-12", "inserted"),
        (None, "rejected"),
        (None, "rejected"),
    ]
    assert {result["error"]["field"] for result in answer["results"][2:]} == {"items[2].id", "items[3].id"}
    assert server.get(f"/collections/{name}/items/7")["id"] == "7"


def test_a_vector_as_base64_is_the_same_vector(server: Server, name: str) -> None:
    vector = np.array([0.1, -2.5, 3e-7, 1e10], np.float32)
    packed = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": packed}]})
    item = server.get(f"/collections/{name}/items/a?include=vector")
    np.testing.assert_array_equal(np.array(item["vector"], np.float32), vector)
    again = server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": vector.tolist()}]})
    assert again["counts"]["unchanged"] == 1
    assert server.post("/search", {"collection": name, "vector": packed})["hits"][0]["score"] == 1.0


def test_with_both_the_vector_is_searched_and_the_text_kept(server: Server, name: str) -> None:
    items = [{"id": "a", "text": "about b", "vector": [1, 0]}, {"id": "b", "text": "about a", "vector": [0, 1]}]
    server.post("/ingest", {"collection": name, "items": items})
    best = server.post("/search", {"collection": name, "vector": [1, 0], "k": 1})["hits"]
    told = {key: value for key, value in best[0].items() if value is not None}
    assert (len(best), told) == (1, {"id": "a", "score": 1.0, "text": "about b", "metadata": {}})


def test_an_atomic_batch_is_kept_whole_or_not_at_all(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0]}]})
    bad = [{"id": "a", "vector": [0, 1]}, {"id": "b", "vector": [1]}, {"id": "c", "vector": [1, 1]}, {"id": "d"}]
    answer = server.client.post("/ingest", json={"collection": name, "items": bad, "atomic": True})
    errors = problem(answer, 422, "items[1].vector", "atomic", "vectors of 2 numbers, this one has 1")["errors"]
    assert [(error["position"], error["id"], error["field"]) for error in errors] == [
        (1, "b", "items[1].vector"),
        (3, "d", "items[3].text"),
    ]
    assert nearest(server, name, [1, 0], k=5) == ["a"]
    assert server.get(f"/collections/{name}")["seq"] == 1
    good = server.post("/ingest", {"collection": name, "items": [bad[0], bad[2]], "atomic": True})
    assert (good["counts"]["updated"], good["counts"]["inserted"]) == (1, 1)


def test_an_atomic_batch_that_is_refused_makes_no_collection(server: Server, name: str) -> None:
    items = [{"id": "a", "vector": [1, 0]}, {"id": "b"}]
    answer = server.client.post("/ingest", json={"collection": name, "items": items, "atomic": True})
    problem(answer, 422, "items[1].text", "neither")
    problem(server.client.get(f"/collections/{name}"), 404, "collection", name)


def test_when_nothing_could_be_kept_the_answer_says_so(server: Server, name: str) -> None:
    server.post("/collections", {"name": name, "dimension": 2}, 201)
    answer = server.client.post("/ingest", json={"collection": name, "items": [{"id": "a", "vector": [1]}]})
    problem(answer, 422, "items[0].vector", "no item could be kept", "vectors of 2 numbers")
    assert server.get(f"/collections/{name}")["items"] == 0


def test_a_first_ingest_of_bad_items_alone_says_what_is_bad(server: Server, name: str) -> None:
    answer = server.client.post("/ingest", json={"collection": name, "items": [{"id": "a"}]})
    problem(answer, 422, "items[0].text", "text, a vector or both")
    answer = server.client.post("/ingest", json={"collection": name, "items": [{"id": "a", "vector": [0, 0]}]})
    problem(answer, 422, "items[0].vector", "zero vector")
    content = b'{"collection": "%b", "items": [{"id": "a", "vector": [1, NaN]}]}' % name.encode()
    problem(post_raw(server, "/ingest", content), 422, "items[0].vector", "position 1 is NaN")
    problem(server.client.get(f"/collections/{name}"), 404, "collection", name)


def test_the_first_ingest_makes_the_collection(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": f"{name}-v", "items": [{"id": "bad"}, {"id": "a", "vector": [3, 4, 0]}]})
    made = server.get(f"/collections/{name}-v")
    assert (made["dimension"], made["metric"], made["encoder"], made["items"]) == (3, "cosine", None, 1)
    server.post("/ingest", {"collection": f"{name}-t", "items": [{"id": "a", "text": "words"}]})
    made = server.get(f"/collections/{name}-t")
    assert (made["dimension"], made["metric"], made["encoder"], made["items"]) == (2048, "cosine", "tfidf", 1)


def test_the_default_collection_is_called_default(server: Server) -> None:
    assert server.post("/ingest", {"items": [{"id": "a", "text": "words"}]})["collection"] == "default"
    assert server.post("/search", {"text": "words"})["hits"][0]["id"] == "a"


def test_an_id_twice_in_a_batch_is_rejected_the_second_time(server: Server, name: str) -> None:
    items = [
        {"id": "a", "vector": [1, 0]},
        {"id": 7, "vector": [1, 1]},
        {"id": "a", "vector": [0, 1]},
        {"id": "7", "vector": [0, 1]},
    ]
    answer = server.post("/ingest", {"collection": name, "items": items})
    assert [result["status"] for result in answer["results"]] == ["inserted", "inserted", "rejected", "rejected"]
    assert answer["results"][2]["error"]["field"] == "items[2].id"
    assert "'a' stands earlier in this batch" in answer["results"][2]["error"]["detail"]
    assert "'7'" in answer["results"][3]["error"]["detail"]
    assert nearest(server, name, [1, 0]) == ["a"]


def test_eight_writers_of_the_same_ids_agree_in_the_end(server: Server, name: str) -> None:
    server.post("/collections", {"name": name, "dimension": 8}, 201)
    ids = [f"item-{number}" for number in range(20)]

    def write(writer: int) -> int:
        vector = np.eye(8)[writer].tolist()
        changes = 0
        for turn in range(5):
            items = [{"id": one, "vector": vector, "text": f"{writer}", "metadata": {"turn": turn}} for one in ids]
            counts = server.post("/ingest", {"collection": name, "items": items})["counts"]
            assert sum(counts.values()) == 20
            assert counts["rejected"] == 0
            changes += counts["inserted"] + counts["updated"]
        return changes

    with ThreadPoolExecutor(8) as pool:
        changes = sum(pool.map(write, range(8)))
    described = server.get(f"/collections/{name}")
    assert (described["items"], described["seq"]) == (20, changes)
    stored = server.post(f"/collections/{name}/items/get", {"ids": ids, "include": ["text", "metadata", "vector"]})
    writers = {item["text"] for item in stored["items"]}
    assert len(writers) == 1  # every batch is one transaction, so the last one stands whole
    writer = int(writers.pop())
    assert all(item["vector"] == np.eye(8)[writer].tolist() for item in stored["items"])
    hits = server.post("/search", {"collection": name, "vector": np.eye(8)[writer].tolist(), "k": 100})["hits"]
    assert sorted(hit["id"] for hit in hits) == sorted(ids)
    assert {hit["score"] for hit in hits} == {1.0}
