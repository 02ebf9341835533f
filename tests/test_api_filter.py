"""Filters over HTTP: no fewer true neighbours than without one, one's own writes, every process, clear refusals."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

import numpy as np
import pytest

from models import Metric, exact_neighbours
from tests.conftest import Server, clustered
from tests.test_api_problems import problem

N, DIM = 5_000, 24
VECTORS, QUERIES = clustered(N, DIM, seed=11), clustered(40, DIM, seed=12)
RANKS = np.random.default_rng(13).permutation(N)
ANIMALS: dict[str, dict[str, Any]] = {
    "otter": {"legs": 4, "home": ["river", "sea"], "seen": "2026-01-31T10:00:00Z", "size": {"cm": 80}},
    "trout": {"legs": 0, "home": ["river", "lake"], "seen": "2026-02-10", "size": {"cm": 40.5}},
    "wren": {"legs": 2, "home": "wood", "migrates": False, "size": {"cm": 10}},
    "swift": {"legs": 2, "home": "air", "migrates": True, "seen": None},
    "rock": {},
}


@pytest.fixture(scope="module")
def ranked(server: Server) -> str:
    """A trained collection whose items have their rank, 0 to N-1 in random order, as metadata."""
    name = "filter-ranked"
    server.post("/collections", {"name": name, "dimension": DIM, "metric": "cosine", "codec": {"bytes": 12}}, 201)
    items = [
        {"id": str(row), "vector": VECTORS[row].tolist(), "metadata": {"rank": int(RANKS[row])}} for row in range(N)
    ]
    server.post("/ingest", {"collection": name, "items": items})
    server.trained(name, training={"epochs": 1})
    return name


@pytest.fixture
def animals(server: Server, name: str) -> str:
    """A collection with the animals in their order: the nearest to [1, 0] is the otter, then the trout."""
    ingest_animals(server, name)
    return name


def ingest_animals(server: Server, collection: str) -> int:
    """The seq of the receipt."""
    items = [{"id": i, "vector": [1, n], "metadata": metadata} for n, (i, metadata) in enumerate(ANIMALS.items())]
    return int(server.post("/ingest", {"collection": collection, "items": items})["seq"])


def chosen(server: Server, collection: str, wanted: Any, **more: Any) -> list[str]:
    """Ids of the hits, best first."""
    answer = server.post("/search", {"collection": collection, "vector": [1, 0], "filter": wanted} | more)
    assert (answer["partial"], answer["partial_reason"]) == (False, None)
    return [hit["id"] for hit in answer["hits"]]


def recall(server: Server, collection: str, wanted: Any, rows: Any, **plan: Any) -> float:
    """Share of the ten nearest of `rows` found, asked in one batch; every hit is one of `rows`, and there are ten."""
    truth = exact_neighbours(VECTORS[rows], QUERIES, min(10, len(rows)), Metric.COSINE).rows
    asked = [{"collection": collection, "vector": query.tolist(), "include": []} for query in QUERIES]
    answers = server.post(
        "/search", {"queries": [one | plan | ({"filter": wanted} if wanted else {}) for one in asked]}
    )
    same = 0
    for true, answer in zip(truth, answers["results"], strict=True):
        found = [int(hit["id"]) for hit in answer["hits"]]
        assert (len(found), answer["partial"]) == (min(10, len(rows)), False)
        assert np.isin(found, rows).all()
        same += len(set(found) & set(rows[true].tolist()))
    return same / len(QUERIES) / min(10, len(rows))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_a_filter_costs_no_neighbours(server: Server, ranked: str, share: float) -> None:
    below = round(share * N)
    rows = np.flatnonzero(below > RANKS)
    wanted = {"rank": {"$lt": below}}
    assert recall(server, ranked, wanted, rows, index="exact") == 1
    for plan in ({"stage": "refine"}, {"oversample": 3}, {"index": "buckets"}):
        whole = recall(server, ranked, None, np.arange(N), **plan)
        assert 0.5 < whole <= recall(server, ranked, wanted, rows, **plan) + 0.01, plan


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["otter", "trout", "wren", "swift", "rock"]),
        ({"legs": 2}, ["wren", "swift"]),
        ({"legs": 2.0, "migrates": True}, ["swift"]),
        ({"legs": {"$gt": 0, "$lte": 4}}, ["otter", "wren", "swift"]),
        ({"legs": {"$ne": 2}}, ["otter", "trout", "rock"]),
        ({"legs": {"$in": [0, 4, "2"]}}, ["otter", "trout"]),
        ({"legs": {"$nin": [0, 4]}}, ["wren", "swift", "rock"]),
        ({"home": "river"}, ["otter", "trout"]),
        ({"home": {"$gte": "sea"}}, ["otter", "wren"]),
        ({"size.cm": {"$gte": 40.5}}, ["otter", "trout"]),
        ({"seen": {"$lt": {"$date": "2026-02-01"}}}, ["otter"]),
        ({"seen": {"$exists": True}}, ["otter", "trout", "swift"]),
        ({"seen": None}, ["wren", "swift", "rock"]),
        ({"$or": [{"legs": 4}, {"migrates": False}]}, ["otter", "wren"]),
        ({"$and": [{"home": "river"}, {"home": "sea"}]}, ["otter"]),
        ({"$not": {"legs": {"$exists": True}}}, ["rock"]),
        ({"legs": {"$not": {"$lt": 3}}}, ["otter", "rock"]),
        ({"no.such.path": 1}, []),
    ],
    ids=str,
)
def test_every_operator(server: Server, wanted: Any, expected: list[str]) -> None:
    if server.client.get("/collections/filter-operators").status_code == 404:
        ingest_animals(server, "filter-operators")
    for index in ("faiss", "buckets", "exact"):
        assert chosen(server, "filter-operators", wanted, index=index) == expected
    assert server.post("/collections/filter-operators/items/count", {"filter": wanted}) == {"count": len(expected)}
    page = server.post("/collections/filter-operators/items/scroll", {"filter": wanted})
    assert [item["id"] for item in page["items"]] == expected


def test_a_filter_sees_what_was_just_written(server: Server, animals: str) -> None:
    assert chosen(server, animals, {"legs": 4}) == ["otter"]
    server.client.patch(f"/collections/{animals}/items/trout", json={"metadata": {"legs": 4}})
    assert chosen(server, animals, {"legs": 4}) == ["otter", "trout"]
    assert chosen(server, animals, {"legs": 0}) == []
    item = {"id": "otter", "vector": [0, 1], "metadata": {"legs": 4, "old": True}}
    server.post("/ingest", {"collection": animals, "items": [item, {"id": "mole", "vector": [1, 0]}]})
    assert chosen(server, animals, {"legs": 4}) == ["trout", "otter"]
    assert chosen(server, animals, {"old": True}) == ["otter"]
    server.client.delete(f"/collections/{animals}/items/trout")
    assert chosen(server, animals, {"legs": 4}) == ["otter"]
    assert chosen(server, animals, {"legs": None}, k=1) == ["mole"]


def test_by_example_and_in_a_batch_each_query_has_its_own(server: Server, animals: str) -> None:
    queries = [
        {"collection": animals, "vector": [1, 0], "filter": {"legs": 2}},
        {"collection": animals, "vector": [1, 0]},
        {"collection": animals, "id": "otter", "filter": {"legs": {"$gte": 2}}},
        {"collection": animals, "id": "rock", "filter": {"home": "river"}, "k": 1},
    ]
    answers = server.post("/search", {"queries": queries})["results"]
    assert [[hit["id"] for hit in answer["hits"]] for answer in answers] == [
        ["wren", "swift"],
        list(ANIMALS),
        ["wren", "swift"],
        ["trout"],
    ]
    assert not any(answer["partial"] for answer in answers)


def test_deleting_by_filter(server: Server, animals: str) -> None:
    answer = server.post(f"/collections/{animals}/items/delete", {"filter": {"home": "river"}})
    assert answer == {"seq": 7, "count": 2, "deleted": [], "missing": []}
    assert chosen(server, animals, {}) == ["wren", "swift", "rock"]
    assert server.get(f"/collections/{animals}")["items"] == 3
    again = server.post(f"/collections/{animals}/items/delete", {"filter": {"home": "river"}})
    assert again == {"seq": 7, "count": 0, "deleted": [], "missing": []}
    for body, field in [
        ({}, "ids"),
        ({"ids": ["wren"], "filter": {"legs": 2}}, "ids"),
        ({"filter": {}}, "filter"),
    ]:
        problem(server.client.post(f"/collections/{animals}/items/delete", json=body), 422, field, "")
    assert server.get(f"/collections/{animals}")["items"] == 3


def test_facets_count_values(server: Server, animals: str) -> None:
    def facets(**body: Any) -> list[tuple[Any, int]]:
        answer = server.post(f"/collections/{animals}/items/facets", body)
        return [(facet["value"], facet["count"]) for facet in answer["facets"]]

    assert facets(path="legs") == [(2, 2), (0, 1), (4, 1)]
    assert facets(path="home") == [("river", 2), ("air", 1), ("lake", 1), ("sea", 1), ("wood", 1)]
    assert facets(path="home", filter={"legs": {"$lt": 4}}, limit=2) == [("air", 1), ("lake", 1)]
    assert facets(path="size.cm") == [(10, 1), (40.5, 1), (80, 1)]
    assert facets(path="migrates") == [(False, 1), (True, 1)]
    assert facets(path="none") == []


def test_scrolling_lists_each_item_once_while_others_write(server: Server, name: str) -> None:
    items = [{"id": f"{n:04}", "vector": [1, n], "metadata": {"n": n}} for n in range(500)]
    server.post("/ingest", {"collection": name, "items": items})
    done = Event()

    def write() -> None:
        for n in count(500):
            new = {"id": f"{n:04}", "vector": [1, n], "metadata": {"n": n}}
            server.post("/ingest", {"collection": name, "items": [new]})
            server.client.delete(f"/collections/{name}/items/{n - 499:04}")
            if done.is_set() or n == 900:
                return

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        listed: list[str] = []
        for page in pages(server, name, {"n": {"$gte": 0}}, 7):
            listed += page
        done.set()
        writing.result()
    assert len(listed) == len(set(listed))
    left = {item for page in pages(server, name, None, 1_000) for item in page}
    assert left & {f"{n:04}" for n in range(500)} <= set(listed)
    assert listed == sorted(listed)


def pages(server: Server, collection: str, wanted: Any, limit: int) -> Iterator[list[str]]:
    """Ids of each page of a scroll."""
    cursor = None
    while True:
        body = {"limit": limit, "cursor": cursor, "filter": wanted, "include": []}
        page = server.post(f"/collections/{collection}/items/scroll", body)
        yield [item["id"] for item in page["items"]]
        if (cursor := page["cursor"]) is None:
            return


@pytest.mark.parametrize(
    ("wanted", "field", "words"),
    [
        ({"$nor": []}, "filter.$nor", "there is no $nor"),
        ({"a": {"$regex": "x"}}, "filter.a.$regex", "there is no operator '$regex'"),
        ({"a": {"$gt": True}}, "filter.a.$gt", "it compares numbers, strings"),
        ({"a": {"$in": 3}}, "filter.a.$in", "a list of values"),
        ({"$or": [{"a": 1}, {"b": {"$date": "soon"}}]}, "filter.$or[1].b", "ISO 8601"),
        ({"a": {"b": 1}}, "filter.a", '"outer.inner"'),
        ({"a": [1]}, "filter.a", ""),
        ("legs = 4", "filter", "dictionary"),
    ],
)
def test_a_filter_that_means_nothing_is_named(server: Server, wanted: Any, field: str, words: str) -> None:
    name = "filter-refused"
    ingest_animals(server, name)
    asked = {"collection": name, "vector": [1, 0]}
    problem(server.client.post("/search", json=asked | {"filter": wanted}), 422, field, words)
    in_batch = server.client.post("/search", json={"queries": [asked, asked | {"filter": wanted}]})
    problem(in_batch, 422, f"queries[1].{field}", words)
    for call in ("count", "scroll", "delete"):
        problem(server.client.post(f"/collections/{name}/items/{call}", json={"filter": wanted}), 422, field, words)
