"""What a hostile or careless client sends: refused by name, never an internal error, and nothing else is lost."""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Server
from tests.test_api_problems import post_raw, problem


def packed(*numbers: float) -> str:
    """A vector as base64."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


BAD_VECTORS = {
    "too-short": ("[1]", "vectors of 2 numbers, this one has 1"),
    "too-long": ("[1, 2, 3]", "vectors of 2 numbers, this one has 3"),
    "empty": ("[]", "non-empty list of numbers or base64"),
    "nan": ("[1, NaN]", "position 1 is NaN"),
    "infinity": ("[-Infinity, 1]", "position 0 is NaN, infinite"),
    "beyond-float64": ("[1, 1e999]", "position 1 is NaN, infinite"),
    "beyond-float32": ("[1e39, 1]", "position 0 is NaN, infinite or beyond float32"),
    "huge-whole-number": (f"[1, 1{'0' * 400}]", "beyond float32"),
    "zero": ("[0, 0]", "zero vector has no direction under cosine"),
    "minus-zero": ("[-0.0, 0]", "zero vector has no direction under cosine"),
    "boolean": ("[true, 1]", "position 0 is not a number"),
    "string-inside": ('[1, "2"]', "position 1 is not a number"),
    "null-inside": ("[1, null]", "position 1 is not a number"),
    "nested": ("[[1, 2]]", "position 0 is not a number"),
    "object": ('{"0": 1}', "list of numbers or base64"),
    "number": ("7", "list of numbers or base64"),
    "not-base64": ('"not base64!"', "not base64"),
    "empty-base64": ('""', "0 bytes are not float32"),
    "odd-base64": ('"AAAAAAA="', "5 bytes are not float32 numbers of 4 bytes each"),
    "wrong-length-base64": (f'"{packed(1, 2, 3)}"', "vectors of 2 numbers, this one has 3"),
    "nan-base64": (f'"{packed(1, float("nan"))}"', "position 1 is NaN"),
    "infinite-base64": (f'"{packed(float("inf"), 1)}"', "position 0 is NaN, infinite"),
    "surrogate-base64": ('"\\ud800"', "base64"),
}


@pytest.mark.parametrize(("vector", "words"), BAD_VECTORS.values(), ids=BAD_VECTORS.keys())
def test_a_bad_vector_is_refused_by_field(server: Server, name: str, vector: str, words: str) -> None:
    collection = json.dumps(name)
    good = f'{{"collection": {collection}, "items": [{{"id": "good", "vector": [1, 2]}}]}}'
    assert post_raw(server, "/ingest", good.encode()).status_code == 200
    items = f'[{{"id": "new", "vector": [2, 1]}}, {{"id": "bad", "vector": {vector}}}]'
    mixed = post_raw(server, "/ingest", f'{{"collection": {collection}, "items": {items}}}'.encode()).json()
    assert [result["status"] for result in mixed["results"]] == ["inserted", "rejected"]
    assert mixed["results"][1]["error"]["field"] == "items[1].vector"
    assert words in mixed["results"][1]["error"]["detail"]
    alone = f'{{"collection": {collection}, "items": [{{"id": "bad", "vector": {vector}}}]}}'
    problem(post_raw(server, "/ingest", alone.encode()), 422, "items[0].vector", words)
    search = f'{{"collection": {collection}, "vector": {vector}}}'
    problem(post_raw(server, "/search", search.encode()), 422, "vector", words)
    found = server.post("/search", {"collection": name, "vector": [1, 2]})["hits"]
    assert [hit["id"] for hit in found] == ["good", "new"]


def test_a_zero_vector_is_a_vector_where_length_does_not_matter(server: Server, name: str) -> None:
    for metric, best in (("ip", 0.0), ("l2", -2.0)):
        collection = f"{name}-{metric}"
        server.post("/collections", {"name": collection, "dimension": 2, "metric": metric}, 201)
        server.post("/ingest", {"collection": collection, "items": [{"id": "zero", "vector": [0, 0]}]})
        hits = server.post("/search", {"collection": collection, "vector": [1, -1]})["hits"]
        assert [(hit["id"], hit["score"]) for hit in hits] == [("zero", best)]


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("size", [1e20, 3e38], ids=["e20", "e38"])
def test_numbers_whose_squares_overflow_are_ranked_or_refused(
    server: Server, name: str, metric: str, size: float
) -> None:
    server.post("/collections", {"name": name, "dimension": 2, "metric": metric}, 201)
    items = [{"id": "big", "vector": [size, size]}, {"id": "small", "vector": [1, 0]}]
    answer = server.post("/ingest", {"collection": name, "items": items})
    assert answer["results"][1]["status"] == "inserted"
    if answer["results"][0]["status"] == "rejected":
        assert answer["results"][0]["error"]["field"] == "items[0].vector"
        return
    hits = server.post("/search", {"collection": name, "vector": [1, 1]})["hits"]
    assert all(isinstance(hit["score"], float) for hit in hits)
    assert [hit["id"] for hit in hits] == (["small", "big"] if metric == "l2" else ["big", "small"])
    if metric == "cosine":
        assert [hit["score"] for hit in hits] == pytest.approx([1, 0.5**0.5], abs=1e-6)


@pytest.mark.parametrize(
    ("item", "field", "words"),
    [
        ({}, "items[1].text", "text, a vector or both; this one has neither"),
        ({"text": ""}, "items[1].text", "at least 1 character"),
        ({"text": 7}, "items[1].text", "valid string"),
        ({"text": "only a text"}, "items[1].text", "takes vectors only"),
        ({"text": "a\0b", "vector": [1, 0]}, "items[1].text", "NUL"),
        ({"text": "x" * 1_000_001, "vector": [1, 0]}, "items[1].text", "1000000 characters"),
        ({"id": "", "vector": [1, 0]}, "items[1].id", "at least 1 character"),
        ({"id": "a\0b", "vector": [1, 0]}, "items[1].id", "NUL"),
        ({"id": "x" * 513, "vector": [1, 0]}, "items[1].id", "512 characters"),
        ({"id": ["a"], "vector": [1, 0]}, "items[1].id", "string"),
        ({"id": 10**600, "vector": [1, 0]}, "items[1].id", "512"),
        ({"vector": [1, 0], "metadata": [1]}, "items[1].metadata", "dictionary"),
        ({"vector": [1, 0], "metadata": {"x": float("nan")}}, "items[1].metadata", "NaN"),
        ({"vector": [1, 0], "metadata": {"x": [float("inf")]}}, "items[1].metadata", "infinity"),
        ({"vector": [1, 0], "metadata": {"x": "\ud800"}}, "items[1].metadata", "characters"),
        ({"vector": [1, 0], "metadata": {"\udfff": 1}}, "items[1].metadata", "characters"),
        ({"vector": [1, 0], "metadata": {"x": "x" * 65_536}}, "items[1].metadata", "65536 is the most"),
        ({"vector": [1, 0], "text": "\ud800"}, "items[1].text", "unicode"),
        ({"vector": [1, 0], "id": "\ud800"}, "items[1].id", "unicode"),
        ({"vector": [1, 0], "\ud800": 1}, "items[1]", "unicode"),
        ("text", "items[1]", "dictionary"),
        (None, "items[1]", "dictionary"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_item_is_rejected_by_field(server: Server, item: Any, field: str, words: str) -> None:
    content = json.dumps({"collection": "bad_items", "items": [{"id": "good", "vector": [1, 0]}, item]}).encode()
    answer = post_raw(server, "/ingest", content)
    assert answer.status_code == 200, answer.text[:300]
    good, bad = answer.json()["results"]
    assert good["status"] in ("inserted", "unchanged")
    assert (bad["status"], bad["error"]["field"]) == ("rejected", field)
    assert words in bad["error"]["detail"]
    ndjson = json.dumps({"id": "good", "vector": [1, 0]}) + "\n" + json.dumps(item) + "\n"
    streamed = post_raw(server, "/ingest?collection=bad_items", ndjson.encode(), "application/x-ndjson")
    (rejected,) = streamed.json()["results"]
    assert (rejected["line"], rejected["error"]["field"]) == (2, field.partition("].")[2] or None)
    assert words in rejected["error"]["detail"]
    assert server.get("/collections/bad_items")["items"] == 1


@pytest.mark.parametrize("depth", [200, 300, 600, 900])
@pytest.mark.parametrize("brackets", ["[]", "{}"], ids=["lists", "objects"])
def test_nested_metadata_is_kept_and_read_or_rejected(server: Server, name: str, depth: int, brackets: str) -> None:
    nested = "[" * depth + "]" * depth if brackets == "[]" else '{"a":' * depth + "1" + "}" * depth
    items = f'[{{"id": "deep", "vector": [1, 0], "metadata": {{"x": {nested}}}}}, {{"id": "good", "vector": [1, 1]}}]'
    answer = post_raw(server, "/ingest", f'{{"collection": {json.dumps(name)}, "items": {items}}}'.encode())
    assert answer.status_code == 200
    kept = answer.json()["results"][0]["status"] == "inserted"
    found = server.client.post("/search", json={"collection": name, "vector": [1, 0]})
    assert found.status_code == 200, "an item that was taken in breaks every search that finds it"
    assert [hit["id"] for hit in found.json()["hits"]] == (["deep", "good"] if kept else ["good"])
    assert server.client.get(f"/collections/{name}/items/deep").status_code == (200 if kept else 404)
    if not kept:
        error = answer.json()["results"][0]["error"]
        assert (error["field"], "nested" in error["detail"]) == ("items[0].metadata", True)


@pytest.mark.parametrize(
    "body",
    [{"\ud800": 1}, {"collection": "\ud800"}, {"collection": "c", "items": [{"id": "\ud800", "vector": [1, 0]}]}],
    ids=["field", "collection", "id"],
)
def test_a_lone_surrogate_is_refused(server: Server, body: Any) -> None:
    answer = post_raw(server, "/ingest", json.dumps(body).encode())
    assert answer.status_code == 422, answer.text
    problem(answer, 422, answer.json()["field"], "unicode")


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ({"k": 0}, "k", "greater than or equal to 1; got 0"),
        ({"k": -1}, "k", "greater than or equal to 1"),
        ({"k": 1_000_000}, "k", "1000000 is more than the 1000 hits"),
        ({"k": 10**400}, "k", "more than the 1000 hits"),
        ({"k": 1.5}, "k", "integer"),
        ({"k": None}, "k", "integer"),
        ({"oversample": 0}, "oversample", "greater than or equal to 1"),
        ({"oversample": 101}, "oversample", "100"),
        ({"scan": 0}, "scan", "greater than 0"),
        ({"scan": 1.5}, "scan", "less than or equal to 1"),
        ({"index": "hnsw"}, "index", "'faiss', 'buckets' or 'exact'"),
        ({"stage": "all"}, "stage", "'shortlist', 'refine' or 'rescore'"),
        ({"text": "x"}, "text", "exactly one of text, vector and id"),
        ({"vector": None}, "text", "exactly one of text, vector and id, not none"),
        ({"vector": None, "text": ""}, "text", "at least 1 character"),
        ({"vector": None, "text": "x"}, "text", "takes vectors only"),
        ({"vector": None, "text": "x" * 1_000_001}, "text", "1000000 characters"),
        ({"vector": None, "id": ""}, "id", "at least 1 character"),
        ({"collection": "a b"}, "collection", "pattern"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_query_is_refused_by_field(server: Server, query: Any, field: str, words: str) -> None:
    server.post("/ingest", {"collection": "bad_query", "items": [{"id": "a", "vector": [1, 0]}]})
    asked = {"collection": "bad_query", "vector": [1, 0]} | query
    answer = server.client.post(
        "/search", json={key: value for key, value in asked.items() if key != "vector" or value}
    )
    problem(answer, 422, field, words)
    assert len(answer.content) < 2_000


def test_what_is_not_there_is_404_by_field(server: Server, name: str) -> None:
    problem(server.client.post("/search", json={"collection": name, "vector": [1]}), 404, "collection", name)
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0]}]})
    problem(server.client.post("/search", json={"collection": name, "id": "b"}), 404, "id", "'b'")
    problem(server.client.get(f"/collections/{name}/items/b"), 404, "id", "'b'")
    problem(server.client.delete(f"/collections/{name}/items/b"), 404, "id", "'b'")
    problem(server.client.get(f"/collections/{name}/items/a?include=all"), 422, "include[0]", "'vector'")


def test_lists_of_no_or_too_many_items_are_refused(server: Server, name: str) -> None:
    problem(server.client.post("/ingest", json={"items": []}), 422, "items", "send 1 to 10000")
    problem(server.client.post("/ingest", json={}), 422, "items", "required")
    problem(server.client.post("/ingest", json={"items": [{}] * 10_001}), 422, "items", "10001 are more than the 10000")
    long = {"collection": name, "items": [{"vector": [1.0] * 16_385}]}
    problem(server.client.post("/ingest", json=long), 422, "items[0].vector", "16384")


def test_text_is_no_use_where_the_server_has_no_encoder(new_server: Callable[..., Server]) -> None:
    server = new_server(ENCODER="none")
    answer = server.client.post("/ingest", json={"items": [{"id": "a", "text": "x"}]})
    problem(answer, 422, "items[0].text", "takes vectors only", "'vector'")
    mixed = server.post("/ingest", {"items": [{"id": "a", "text": "x"}, {"id": "b", "vector": [1, 0]}]})
    assert [result["status"] for result in mixed["results"]] == ["rejected", "inserted"]
    assert mixed["results"][0]["error"]["field"] == "items[0].text"
