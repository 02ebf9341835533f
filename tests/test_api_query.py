"""What a search can say beside its query: examples, thresholds, pages, groups, diversity, and where its time went."""

from typing import Any

import numpy as np
import pytest

from models import Metric, normalized
from service.choice import diverse, value_at
from tests.conftest import Server, clustered
from tests.test_api_problems import problem

ANGLES = {"east": 0, "north": 90, "west": 180, "south": 270, "north-east": 45, "near-east": 10}


@pytest.fixture
def compass(server: Server, name: str) -> str:
    """Unit vectors by their angles."""
    items = [
        {"id": item_id, "vector": [np.cos(np.radians(angle)), np.sin(np.radians(angle))], "metadata": {"a": angle}}
        for item_id, angle in ANGLES.items()
    ]
    server.post("/ingest", {"collection": name, "items": items})
    return name


def ids(answer: Any) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def test_several_examples_and_their_opposites(server: Server, compass: str) -> None:
    asked = {"collection": compass, "k": 2}
    between = {"positive": [{"id": "east"}, {"vector": [0, 5]}]}  # lengths do not count under cosine
    assert ids(server.post("/search", asked | between)) == ["north-east", "near-east"]
    away = {"positive": [{"id": "north-east"}], "negative": [{"id": "north"}]}
    assert ids(server.post("/search", asked | away)) == ["near-east", "east"]
    assert ids(server.post("/search", asked | {"id": "north-east", "negative": [{"id": "north"}]})) == [
        "near-east",
        "east",
    ]
    both = {"id": "east", "positive": [{"id": "west"}, {"id": "north"}]}
    assert ids(server.post("/search", asked | both)) == ["north-east", "near-east"]
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"positive": [{"id": "east"}, {"id": "west"}]}, "negative", "cancel each other out"),
        ({"positive": [{"id": "east", "vector": [1, 0]}]}, "positive[0].text", "not ['vector', 'id']"),
        ({"positive": [{"vector": [1, 0, 0]}]}, "positive[0].vector", "this one has 3"),
        ({"negative": [{"id": "east"}]}, "text", "not none"),
    ]
    for body, field, words in refused:
        problem(server.client.post("/search", json=asked | body), 422, field, words)
    gone = server.client.post("/search", json=asked | {"id": "east", "negative": [{"id": "up"}]})
    problem(gone, 404, "negative[0].id", "'up'")


def test_hits_below_a_score_are_left_out(server: Server, compass: str) -> None:
    asked = {"collection": compass, "vector": [1, 0]}
    answer = server.post("/search", asked | {"min_score": 0.5})
    assert (ids(answer), answer["partial"], answer["cursor"]) == (["east", "near-east", "north-east"], False, None)
    assert ids(server.post("/search", asked | {"min_score": 1.5})) == []
    page = server.post("/search", asked | {"min_score": 0.5, "k": 2})
    rest = server.post("/search", asked | {"min_score": 0.5, "k": 2, "cursor": page["cursor"]})
    assert (ids(page), ids(rest), rest["cursor"]) == (["east", "near-east"], ["north-east"], None)


@pytest.mark.parametrize("index", ["faiss", "buckets", "exact"])
def test_pages_tell_each_item_once_whatever_is_written_between(server: Server, name: str, index: str) -> None:
    vectors = clustered(300, 8, seed=5)
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    server.trained(name, codec={"bytes": 4}, training={"epochs": 1})
    asked = {"collection": name, "vector": vectors[7].tolist(), "k": 20, "index": index, "oversample": 15}
    truth = np.argsort(-(normalized(vectors) @ normalized(vectors[7:8])[0]), kind="stable")
    found, cursor = list[str](), None
    for page in range(4):
        answer = server.post("/search", asked | {"cursor": cursor})
        assert len(answer["hits"]) == 20
        found, cursor = found + ids(answer), answer["cursor"]
        closer = {"id": f"new-{page}", "vector": vectors[7].tolist()}
        server.post("/ingest", {"collection": name, "items": [closer]})
        server.client.delete(f"/collections/{name}/items/{found[page]}")
    assert len(set(found)) == 80
    old = [item for item in found if not item.startswith("new")]
    assert len(set(old) & {str(row) for row in truth[:80]}) >= (60 if index == "buckets" else 75)
    assert [item for item in found if item.startswith("new")] == ["new-0", "new-1", "new-2"]


def test_a_cursor_that_is_none_and_the_last_page(server: Server, compass: str) -> None:
    asked = {"collection": compass, "vector": [1, 0], "k": 4}
    first = server.post("/search", asked)
    last = server.post("/search", asked | {"cursor": first["cursor"]})
    assert sorted(ids(first) + ids(last)) == sorted(ANGLES)
    assert (last["cursor"], last["partial"]) == (None, False)
    for cursor in ("x", "ü", "AAAA", first["cursor"][:-2]):
        problem(server.client.post("/search", json=asked | {"cursor": cursor}), 422, "cursor", "no cursor of a search")
    deep = server.client.post("/search", json=asked | {"cursor": first["cursor"], "k": 997})
    problem(deep, 422, "cursor", "pages end at 1000 hits")
    for more in ({"diversity": 0.5}, {"group_by": "a"}):
        refused = server.client.post("/search", json=asked | more | {"cursor": first["cursor"]})
        problem(refused, 422, "cursor", "no pages")


def test_the_best_of_each_group_however_deep_it_lies(server: Server, name: str) -> None:
    items = [
        {"id": f"a{n:03}", "vector": [1, n / 1e3], "metadata": {"doc": "a", "at": {"page": n}}} for n in range(300)
    ]
    items += [{"id": f"b{n}", "vector": [1, 1 + n], "metadata": {"doc": "b"}} for n in range(3)]
    items += [{"id": "c", "vector": [-1, 1], "metadata": {"doc": 3}}, {"id": "alone", "vector": [0, 1]}]
    items += [
        {"id": "d", "vector": [-1, 0], "metadata": {"doc": True}},
        {"id": "e", "vector": [-1, -1], "metadata": {"doc": 1}},
    ]
    server.post("/ingest", {"collection": name, "items": items})
    asked = {"collection": name, "vector": [1, 0], "group_by": "doc", "oversample": 2}
    for index in ("faiss", "buckets", "exact"):
        answer = server.post("/search", asked | {"index": index, "k": 6})
        expected = [("a000", "a"), ("b0", "b"), ("alone", None), ("c", 3), ("e", 1), ("d", True)]
        assert [(hit["id"], hit["group"]) for hit in answer["hits"]] == expected
        assert answer["partial"] is False
    answer = server.post("/search", asked | {"k": 2, "group_size": 2})
    assert ids(answer) == ["a000", "a001", "b0", "b1"]
    answer = server.post("/search", asked | {"k": 2, "filter": {"at.page": {"$not": {"$lt": 299}}}})
    assert ids(answer) == ["a299", "b0"]
    assert ids(server.post("/search", asked | {"k": 5, "min_score": 0.5})) == ["a000", "b0"]
    pages = server.post("/search", asked | {"k": 3, "group_by": "at.page"})
    assert [hit["group"] for hit in pages["hits"]] == [0, 1, 2]


def test_diverse_hits_are_those_of_the_definition(server: Server, name: str) -> None:
    vectors = normalized(clustered(200, 8, seed=6, clusters=5))
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    query = normalized(clustered(1, 8, seed=7, clusters=5))[0]
    asked = {"collection": name, "vector": query.tolist(), "k": 8}
    plain = ids(server.post("/search", asked))
    assert ids(server.post("/search", asked | {"diversity": 0})) == plain
    pool = np.argsort(-(vectors @ query), kind="stable")[:80]  # k * oversample
    for diversity in (0.3, 0.7):
        chosen: list[int] = []
        for _ in range(8):
            gains = {
                row: (1 - diversity) * vectors[row] @ query
                - diversity * max([0.0, *(vectors[row] @ vectors[other] for other in chosen)])
                for row in pool.tolist()
                if row not in chosen
            }
            chosen.append(max(gains, key=lambda row: gains[row]))
        answer = server.post("/search", asked | {"diversity": diversity})
        assert ids(answer) == [str(row) for row in chosen]
        np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], vectors[chosen] @ query, atol=1e-5)
    both = server.client.post("/search", json=asked | {"diversity": 0.5, "group_by": "a"})
    problem(both, 422, "diversity", "either diverse or grouped")


def test_diversity_of_few_and_of_other_metrics() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0, 1]], np.float32)
    scores = np.array([-1.0, -1.1, -3.0], np.float32)
    assert diverse(scores, vectors, 5, 0.6, Metric.L2).tolist() == [0, 2, 1]
    assert diverse(scores, vectors, 2, 0.1, Metric.L2).tolist() == [0, 1]
    assert diverse(scores[:0], vectors[:0], 2, 0.5, Metric.IP).tolist() == []
    assert diverse(np.ones(2, np.float32), vectors[:2], 2, 0.5, Metric.IP).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("metadata", "path", "value"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b": "x"}}, "a.b", "x"),
        ({"a.b": 2, "a": {"b": 1}}, "a.b", 2),
        ({"a": {"b.c": False}}, "a.b.c", False),
        ({"a": [1]}, "a", None),
        ({"a": {"b": 1}}, "a", None),
        ({"a": None}, "a", None),
        ({"a": 1}, "a.b", None),
    ],
    ids=str,
)
def test_the_value_that_is_grouped_by(metadata: Any, path: str, value: Any) -> None:
    assert value_at(metadata, path) == value


def test_a_profile_tells_stages_and_counts(server: Server, name: str) -> None:
    vectors = clustered(400, 8, seed=8)
    items = [{"id": str(row), "vector": vector.tolist(), "metadata": {"n": row}} for row, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    server.trained(name, codec={"bytes": 4}, training={"epochs": 1})
    asked = {"collection": name, "vector": vectors[0].tolist(), "k": 5, "oversample": 4, "profile": True}
    profile = server.post("/search", asked | {"filter": {"n": {"$lt": 100}}})["profile"]
    assert profile["codec"] == "dense"
    assert profile["counts"] == {
        "queries": 1,
        "items": 400,
        "chosen": 100,
        "codes": 100,
        "bytes": 100 * 4 + 20 * 8 * 4,
        "shortlist": 20,
        "originals": 20,
    }
    assert list(profile["milliseconds"]) == [
        "query",
        "filter",
        "waiting",
        "shortlist",
        "originals",
        "rescore",
        "documents",
    ]
    assert all(took >= 0 for took in profile["milliseconds"].values())
    assert profile["milliseconds"]["rescore"] >= profile["milliseconds"]["originals"] > 0
    by_codes = server.post("/search", asked | {"stage": "refine"})["profile"]
    assert by_codes["counts"] == {"queries": 1, "items": 400, "codes": 400, "bytes": 1_600, "shortlist": 20}
    assert "refine" in by_codes["milliseconds"]
    del asked["profile"]
    assert server.post("/search", asked)["profile"] is None
