"""What every error looks like: problem JSON that names the field and what would be accepted."""

import pickle
from typing import Any

import httpx
import pytest

from service.errors import CodewellError, DimensionMismatch, LimitExceeded
from tests.conftest import Server


def problem(answer: httpx.Response, status: int, field: str | None, *words: str) -> Any:
    """The answer's body, which must be a problem of this status about this field, with these words in its detail."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
    assert body.get("field") == field, body
    assert [word for word in words if word not in body["detail"]] == [], body["detail"][:500]
    return body


def post_raw(server: Server, path: str, content: bytes, media: str = "application/json") -> httpx.Response:
    """Posts bytes as they are."""
    return server.client.post(path, content=content, headers={"content-type": media})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/", 404),
        ("GET", "/search", 405),
        ("PUT", "/ingest", 405),
        ("OPTIONS", "/search", 405),
        ("PATCH", "/collections", 405),
        ("POST", "/livez", 405),
        ("TRACE", "/nowhere", 404),
    ],
)
def test_an_unknown_path_or_method_is_a_problem(server: Server, method: str, path: str, status: int) -> None:
    answer = server.client.request(method, path)
    problem(answer, status, None)
    assert ("allow" in answer.headers) == (status == 405)


def test_a_head_request_is_answered_without_a_body(server: Server) -> None:
    answer = server.client.head("/livez")
    assert answer.status_code in (200, 405)
    assert answer.content == b""
    assert server.get("/livez") == {"status": "alive"}


@pytest.mark.parametrize("path", ["/collections/c/items", "/collections/", "/search/", "/ingest/"])
def test_a_path_with_one_slash_more_or_less_is_not_sent_elsewhere(server: Server, path: str) -> None:
    answer = server.client.get(path)
    assert answer.status_code in (404, 405)
    problem(answer, answer.status_code, None)


def test_the_form_of_a_problem(server: Server, name: str) -> None:
    body = problem(server.client.get(f"/collections/{name}"), 404, "collection", name, "GET /collections")
    assert body["type"] == "urn:codewell:collection-not-found"
    assert body["title"] == "Collection not found"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/ingest", {"items": [{"vector": [1.0]}], "atomick": True}, "atomick"),
        ("/search", {"vector": [1.0], "top_k": 3}, "top_k"),
        ("/search", {"queries": [{"vector": [1.0]}, {"vector": [1.0], "K": 3}]}, "queries[1].K"),
        ("/collections", {"name": "a", "dimension": 2, "metrics": "l2"}, "metrics"),
        ("/collections", {"name": "a", "dimension": 2, "codec": {"byte": 8}}, "codec.byte"),
        ("/collections", {"name": "a", "dimension": 2, "codec": {"corruption": {"p": 1}}}, "codec.corruption.p"),
    ],
)
def test_an_unknown_field_is_refused_by_name(server: Server, path: str, body: Any, field: str) -> None:
    problem(server.client.post(path, json=body), 422, field, "Extra inputs are not permitted")


def test_an_unknown_field_of_an_item_is_refused_by_name(server: Server, name: str) -> None:
    items = [{"id": "a", "vector": [1.0], "meta": {}}, {"id": "b", "vector": [1.0]}]
    answer = server.post("/ingest", {"collection": name, "items": items})
    assert [result["status"] for result in answer["results"]] == ["rejected", "inserted"]
    assert answer["results"][0]["error"]["field"] == "items[0].meta"


def test_many_errors_are_all_listed(server: Server) -> None:
    answer = server.client.post("/search", json={"vector": [1.0], "k": 0, "index": "tree", "stage": "last"})
    errors = {
        error["field"]: error["detail"] for error in problem(answer, 422, "k", "greater than or equal to 1")["errors"]
    }
    assert errors["index"].startswith("Input should be 'faiss', 'buckets' or 'exact'; got 'tree'")
    assert errors["stage"].startswith("Input should be 'shortlist', 'refine' or 'rescore'; got 'last'")


def test_the_documentation_is_served(server: Server) -> None:
    page = server.client.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    paths = server.get("/openapi.json")["paths"]
    assert {"/ingest", "/search", "/collections", "/aliases", "/jobs", "/livez", "/readyz"} <= set(paths)
    assert "application/x-ndjson" in paths["/ingest"]["post"]["requestBody"]["content"]


def test_alive_and_ready(server: Server, name: str) -> None:
    before = server.get("/readyz")
    server.post("/collections", {"name": name, "dimension": 2}, 201)
    assert server.get("/readyz") == {"status": "ready", "collections": before["collections"] + 1}
    assert server.get("/livez") == {"status": "alive"}


@pytest.mark.parametrize(
    "error",
    [
        DimensionMismatch(expected=3, got=5, field="queries[1].vector"),
        LimitExceeded("k is 51", field="k", limit=50, setting="max_k"),
        CodewellError("plain"),
    ],
)
def test_an_error_is_the_same_in_another_process(error: CodewellError) -> None:
    error.members["committed_through_line"] = 7
    there = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))
