"""The examples of the OpenAPI document are sent as they are, each to its operation, and do what they say."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import Server, clustered

ANIMALS = {
    "otter": ("A river mammal that eats fish", {"legs": 4, "home": "river"}),
    "violin": ("A bowed string instrument", {}),
    "trout": ("A freshwater fish with spots", {"legs": 0, "home": "river"}),
    "wren": ("A small bird, one of the animals that sing", {"legs": 2, "home": "hedge"}),
}
FIRST, LAST = ("/ingest", "/decode"), "/delete"
"""What ends the paths of operations that are tried before the others, and of one that is tried after them."""


class Example(NamedTuple):
    """One body for one operation."""

    path: str
    method: str
    media: str
    body: Any


def examples(document: dict[str, Any]) -> Iterator[Example]:
    """Of every operation that has any: beside its body, or in the schema of it."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                schema = content.get("schema", {})
                named = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
                given = [content["example"]] if "example" in content else named.get("examples", [])
                yield from (Example(path, method, media, body) for body in given)


def sent(server: Server, example: Example) -> Any:
    """The answer, which must be a good one."""
    of_codes = example.path.endswith("/decode") or (example.method == "patch" and example.path.endswith("{name}"))
    name = "coded" if of_codes else "default"
    path = example.path.format(name=name, item_id="otter", alias="newest")
    if isinstance(example.body, str):
        answer: httpx.Response = server.client.request(
            example.method, path, content=example.body, headers={"content-type": example.media}
        )
    else:
        answer = server.client.request(example.method, path, json=example.body)
    assert answer.is_success, f"{example}: {answer.status_code} {answer.text}"
    if answer.headers["content-type"].startswith("application/x-ndjson"):
        return {"results": [json.loads(line) for line in answer.text.splitlines()]}
    return answer.json()


def found(answer: dict[str, Any]) -> list[list[str]]:
    """Ids of the hits of each question."""
    return [[hit["id"] for hit in one["hits"]] for one in answer.get("results", [answer])]


def test_every_example_does_what_it_says(new_server: Callable[..., Server]) -> None:
    server = new_server(TFIDF_DIMENSION="512")
    items = [{"id": item, "text": text, "metadata": held} for item, (text, held) in ANIMALS.items()]
    items += [{"id": str(row), "text": f"nothing of note in {row}"} for row in range(100)]
    server.post("/ingest", {"items": items})
    server.trained("default", codec={"kind": "sparse", "latents": 128, "k": 32}, training={"epochs": 3})
    coded = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(clustered(120, 4))]
    server.post("/ingest", {"collection": "coded", "items": coded})
    server.trained("coded", codec={"kind": "residual", "bytes": 17, "beam": 1})
    every = sorted(
        examples(server.get("/openapi.json")), key=lambda one: (not one.path.endswith(FIRST), one.path.endswith(LAST))
    )
    answers = [(example, sent(server, example)) for example in every]

    def of(path: str) -> list[tuple[Any, Any]]:
        return [(example.body, answer) for example, answer in answers if example.path == path]

    assert [answer["counts"]["rejected"] for _, answer in of("/ingest")] == [0, 0, 0]
    searches = of("/search")
    assert len(searches) == 18
    for asked, answer in searches:
        assert all(found(answer)), asked
        if isinstance(asked, str):
            assert [len(hits) for hits in found(answer)] == [1, 1]
            assert found(answer)[0] == ["trout"]
            continue
        ids, hits = found(answer)[0], answer.get("hits", [])
        if asked.get("text") == "a freshwater fish":
            assert ids[0] == "trout"
        if "id" in asked:
            assert (asked["id"] in ids, len(ids)) == (False, 3)
        if asked.get("mode") == "text":
            assert ids == ["trout"]
        if "min_score" in asked:
            assert all(hit["score"] >= asked["min_score"] for hit in hits)
        if "cursor" in asked:
            assert len(ids) == 2
        if "profile" in asked:
            assert (answer["profile"]["codec"], "rescore" in answer["profile"]["milliseconds"]) == ("sparse", False)
        if "explain" in asked:
            why = hits[0]["explanation"]
            assert why["score"] == pytest.approx(sum(part["share"] for part in why["parts"]) + why["rest"], abs=1e-4)
            assert hits[0]["score"] == pytest.approx(why["score"], abs=1e-4)
        if "filter" in asked:
            assert found(answer) == [["otter"]]
        if "group_by" in asked:
            assert {"river", "hedge"} <= {hit["group"] for hit in answer["hits"]}
        if asked.get("mode") == "hybrid" and "fusion" not in asked:
            assert "otter" in found(answer)[0][:2]  # first by words; by vectors those without any are all alike
        if asked.get("collection") == "vectors":
            assert found(answer) == [["a"]]
    of_name = "/collections/{name}"
    ((_, facets),) = of(f"{of_name}/items/facets")
    assert facets == {"facets": [{"value": "river", "count": 1}]}
    ((_, page),) = of(f"{of_name}/items/scroll")
    assert "wren" in {item["id"] for item in page["items"]}
    made = {answer["name"]: answer for _, answer in of("/collections")}
    assert made["papers"]["chunking"] == {"tokens": 200, "overlap": 40}
    assert made["glosses"]["contract"] == {"recall@10": 0.9, "max_bytes": 32}
    ((patch, patched),) = of(f"{of_name}/items/{{item_id}}")
    assert patched["metadata"] | patch["metadata"] == patched["metadata"]
    ((_, read),) = of(f"{of_name}/items/get")
    assert ([item["id"] for item in read["items"]], read["missing"]) == (["otter"], ["dodo"])
    assert [answer["count"] for _, answer in of(f"{of_name}/items{LAST}")] == [1, 1]
    assert made["news"]["retrain"] == {"when": "stale", "at_most_every_hours": 24}
    (_, cutting), (changed, change), (_, logging) = of(of_name)
    assert (logging["log_queries"], of(f"{of_name}/queries")[0][1]) == (True, {"given": 2, "logged": 0})
    assert change["retrain"] == changed["retrain"] == {"when": "drifting", "at_most_every_hours": 12}
    assert (cutting["kind"], server.finished(cutting["id"])["result"]["certificate"]["code_bytes"]) == ("cut", 16)
    assert server.get("/aliases") == {"aliases": {"newest": "default"}}
    ((_, embedded),) = of("/v1/embeddings")
    assert len(embedded["data"][0]["embedding"]) == 512
    ((_, counted),) = of(f"{of_name}/items/count")
    assert counted == {"count": 1}
    ((_, decoded),) = of(f"{of_name}/decode")
    assert [len(vector) for vector in decoded["vectors"]] == [4]
    ((_, encoded),) = of(f"{of_name}/encode")
    assert set(encoded["codes"][0]) == {"0", "1"}
