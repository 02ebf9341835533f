"""Items by id: whatever the id is made of, one at a time or many, and metadata that several change at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Server
from tests.test_api_problems import problem

IDS = [
    "plain",
    "a/b/c",
    "/leading",
    "trailing/",
    "a b  c",
    "100%",
    "%2F",
    "a%20b",
    "ünïcödé/日本語",
    "😀",
    "?q=1&r=2#frag",
    "a+b",
    "..",
    "../../etc/passwd",
    "get",
    "'; DROP TABLE items; --",
    '"quoted"',
    "\\",
    "e\u0301",
    "x" * 512,
]


def path(collection: str, item_id: str) -> str:
    """Of an item, with every character of the id escaped, dots too."""
    return f"/collections/{collection}/items/{quote(item_id, safe='').replace('.', '%2E')}"


def test_ids_of_every_kind_are_read_found_and_deleted(server: Server, name: str) -> None:
    items = [{"id": item_id, "vector": [1, number], "text": item_id} for number, item_id in enumerate(IDS)]
    answer = server.post("/ingest", {"collection": name, "items": items})
    assert [result["id"] for result in answer["results"] if result["status"] == "inserted"] == IDS
    hits = server.post("/search", {"collection": name, "vector": [1, 0], "k": 50})["hits"]
    assert [hit["id"] for hit in hits] == IDS
    for number, item_id in enumerate(IDS):
        if item_id not in ("..", "../../etc/passwd"):  # clients resolve these before they send them
            read = server.client.get(path(name, item_id), params={"include": "vector"})
            assert (read.status_code, read.json().get("id"), read.json().get("vector")) == (200, item_id, [1, number])
            patched = server.client.patch(path(name, item_id), json={"metadata": {"n": number}}).json()
            assert (patched["id"], patched["metadata"], patched["text"]) == (item_id, {"n": number}, item_id)
            found = server.post("/search", {"collection": name, "id": item_id, "k": 1, "include": []})["hits"]
            assert found[0]["id"] != item_id
            assert server.client.delete(path(name, item_id)).status_code == 204
            problem(server.client.get(path(name, item_id)), 404, "id", "no item with the id")
    left = server.post(f"/collections/{name}/items/get", {"ids": IDS})
    assert [item["id"] for item in left["items"]] == ["..", "../../etc/passwd"]
    assert server.post(f"/collections/{name}/items/delete", {"ids": IDS})["deleted"] == ["..", "../../etc/passwd"]
    assert server.post("/search", {"collection": name, "vector": [1, 0]})["hits"] == []


@pytest.mark.parametrize("item_id", ["a\nb", "a\tb", "\x7f"], ids=["line-end", "tab", "delete"])
def test_an_id_holds_no_control_characters(server: Server, name: str, item_id: str) -> None:
    items = [{"id": item_id, "vector": [1, 0]}]
    answer = server.client.post("/ingest", json={"collection": name, "items": items})
    problem(answer, 422, "items[0].id", "control characters")


def test_an_item_is_read_as_it_was_sent(server: Server, name: str) -> None:
    metadata: dict[str, Any] = {"z": 1, "a": [1.5, None, True, {"ü": "😀\u0000\n"}], "big": 10**400, "": {}}
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "text": "  spaces \n", "metadata": metadata}]})
    item = server.get(f"/collections/{name}/items/a")
    assert (item["id"], item["text"], item["metadata"], item["vector"]) == ("a", "  spaces \n", metadata, None)
    assert item["created_at"] == item["updated_at"]
    assert len(server.get(f"/collections/{name}/items/a?include=vector&include=text")["vector"]) == 2048
    (hit,) = server.post("/search", {"collection": name, "text": "spaces"})["hits"]
    assert hit["metadata"] == metadata


def test_many_are_read_in_the_order_asked_for(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": i, "vector": [1, n]} for n, i in enumerate("abc")]})
    answer = server.post(f"/collections/{name}/items/get", {"ids": ["c", "x", "a", "c", 7], "include": ["vector"]})
    assert [(item["id"], item["vector"]) for item in answer["items"]] == [("c", [1, 2]), ("a", [1, 0]), ("c", [1, 2])]
    assert answer["missing"] == ["x", "7"]


@pytest.mark.parametrize("action", ["get", "delete"])
def test_bad_lists_of_ids_are_refused_by_field(server: Server, name: str, action: str) -> None:
    server.post("/collections", {"name": name, "dimension": 2}, 201)
    url = f"/collections/{name}/items/{action}"
    problem(server.client.post(url, json={"ids": []}), 422, "ids", "send 1 to 10000")
    problem(server.client.post(url, json={}), 422, "ids", "required" if action == "get" else "ids or a filter")
    problem(server.client.post(url, json={"ids": ["a", ""]}), 422, "ids[1]", "at least 1 character")
    problem(server.client.post(url, json={"ids": ["a", "x" * 513]}), 422, "ids[1]", "512")
    problem(server.client.post(url, json={"ids": ["a", None]}), 422, "ids[1]", "string")
    problem(server.client.post(url, json={"ids": ["a"] * 10_001}), 422, "ids", "10001", "10000")
    problem(server.client.post(f"/collections/no/items/{action}", json={"ids": ["a"]}), 404, "collection", "'no'")


def test_deleting_many_says_what_was_there(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": i, "vector": [1, n]} for n, i in enumerate("abcd")]})
    answer = server.post(f"/collections/{name}/items/delete", {"ids": ["b", "x", "d", "b"]})
    assert answer == {"seq": 6, "count": 2, "deleted": ["b", "d"], "missing": ["x"]}
    hits = server.post("/search", {"collection": name, "vector": [1, 0]})["hits"]
    assert [hit["id"] for hit in hits] == ["a", "c"]
    assert server.get(f"/collections/{name}")["items"] == 2
    again = server.post("/ingest", {"collection": name, "items": [{"id": "b", "vector": [1, 0.5]}]})
    assert (again["counts"]["inserted"], again["seq"]) == (1, 7)
    hits = server.post("/search", {"collection": name, "vector": [1, 0]})["hits"]
    assert [hit["id"] for hit in hits] == ["a", "b", "c"]


def test_a_patch_merges_metadata(server: Server, name: str) -> None:
    old = {"keep": 1, "gone": 2, "deep": {"x": 1, "y": 2}, "list": [1, 2]}
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0], "metadata": old}]})
    changes = {"gone": None, "deep": {"y": None, "z": {"n": None, "m": 3}}, "list": [None], "new": "ü", "absent": None}
    merged = {"keep": 1, "deep": {"x": 1, "z": {"m": 3}}, "list": [None], "new": "ü"}
    url = f"/collections/{name}/items/a"
    assert server.client.patch(url, json={"metadata": changes}).json()["metadata"] == merged
    assert server.get(url)["metadata"] == merged
    (hit,) = server.post("/search", {"collection": name, "vector": [1, 0]})["hits"]
    assert (hit["score"], hit["metadata"]) == (1.0, merged)
    assert server.get(f"/collections/{name}")["seq"] == 2
    assert server.client.patch(url, json={"metadata": {}}).json()["metadata"] == merged
    assert server.get(f"/collections/{name}")["seq"] == 2


def test_a_bad_patch_is_refused_by_field(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0], "metadata": {"x": 1}}]})
    url = f"/collections/{name}/items/a"
    json_type = {"content-type": "application/json"}
    for content, words in [
        (b'{"metadata": {"x": NaN}}', "NaN"),
        (b'{"metadata": {"x": 1e999}}', "infinity"),
        (b'{"metadata": {"x": "\\ud800"}}', "characters"),
        (b'{"metadata": {"x": ' + b"[" * 900 + b"]" * 900 + b"}}", "nested"),
        (b'{"metadata": {"x": "' + b"x" * 70_000 + b'"}}', "65536"),
    ]:
        problem(server.client.patch(url, content=content, headers=json_type), 422, "metadata", words)
    problem(server.client.patch(url, json={"metadata": [1]}), 422, "metadata", "dictionary")
    problem(server.client.patch(url, json={}), 422, "metadata", "required")
    problem(server.client.patch(url, json={"metadata": {}, "text": "new"}), 422, "text", "not permitted")
    problem(server.client.patch(f"{url}b", json={"metadata": {}}), 404, "id", "'ab'")
    assert server.get(url)["metadata"] == {"x": 1}


def test_patches_of_eight_threads_are_all_kept(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0]}]})

    def patch(writer: int) -> None:
        for turn in range(6):
            body = {"metadata": {f"{writer}-{turn}": turn, "shared": {f"{writer}": turn}}}
            assert server.client.patch(f"/collections/{name}/items/a", json=body).status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(patch, range(8)))
    metadata = server.get(f"/collections/{name}/items/a")["metadata"]
    assert metadata.pop("shared") == {f"{writer}": 5 for writer in range(8)}
    assert metadata == {f"{writer}-{turn}": turn for writer in range(8) for turn in range(6)}
    assert server.get(f"/collections/{name}")["seq"] == 49
