"""Writes that must not undo later ones, and requests that are sent twice: over both databases, and over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from models import Metric
from service.collection import Collection
from service.errors import BatchConflict, CollectionNotFound, KeyReused, SeqConflict, Unavailable
from service.item import NewItem
from service.receipt import ItemStatus, Receipt
from service.terms import OnceKey, Terms, WriteMode
from tests.conftest import Server, clustered
from tests.test_collection import catalog_of, nearest

VECTORS = clustered(50, 8)


@pytest.fixture
def collection(database_url: str) -> Iterator[Collection]:
    database, catalog = catalog_of(database_url)
    yield catalog.create("c", dimension=8, metric=Metric.L2)
    database.close()


def item(item_id: str, v: int, if_seq: int | None = None) -> NewItem:
    return NewItem(item_id, None, VECTORS[v], {"v": v}, if_seq)


def outcomes(receipt: Receipt) -> list[str]:
    return [result.status.value for result in receipt.results]


def stored(collection: Collection, item_id: str) -> tuple[str, int] | None:
    (hit,) = collection.get([item_id])
    return None if hit is None else (hit.item.metadata, hit.item.seq)


def test_if_seq_lets_one_of_two_writers_win(collection: Collection) -> None:
    assert collection.ingest([item("a", 0)]).seq == 1
    assert outcomes(collection.ingest([item("a", 1, if_seq=1)])) == ["updated"]
    lost = collection.ingest([item("a", 2, if_seq=1), item("b", 3)])
    assert outcomes(lost) == ["rejected", "inserted"]
    error = lost.results[0].error
    assert isinstance(error, SeqConflict)
    assert (error.field, "last changed by seq 2, not by 1" in error.detail) == ("items[0].if_seq", True)
    assert stored(collection, "a") == ('{"v":1}', 2)
    assert nearest(collection, VECTORS[1], 1) == ["a"]


def test_racing_writers_lose_no_update(collection: Collection) -> None:
    collection.ingest([NewItem("n", None, VECTORS[0], {"count": 0})])

    def count_up(_: int) -> int:
        """Reads, adds one and writes until nobody came between; how often that was."""
        for attempt in range(200):
            (hit,) = collection.get(["n"])
            assert hit is not None
            count = int(hit.item.metadata.partition(":")[2].rstrip("}"))
            try:
                collection.patch("n", {"count": count + 1}, 1000, if_seq=hit.item.seq)
            except SeqConflict:
                continue
            return attempt
        raise AssertionError("never written")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(20)))
    assert stored(collection, "n") == ('{"count":20}', 21)


def test_modes_reject_what_they_do_not_mean(collection: Collection) -> None:
    collection.ingest([item("a", 0)])
    assert outcomes(collection.ingest([item("a", 1), item("b", 2)], Terms(mode=WriteMode.INSERT))) == [
        "rejected",
        "inserted",
    ]
    assert outcomes(collection.ingest([item("a", 3), item("c", 4)], Terms(mode=WriteMode.UPDATE))) == [
        "updated",
        "rejected",
    ]
    assert [stored(collection, name) for name in "abc"] == [('{"v":3}', 3), ('{"v":2}', 2), None]
    with pytest.raises(BatchConflict, match="atomic") as refused:
        collection.ingest([item("d", 5), item("a", 6)], Terms(atomic=True, mode=WriteMode.INSERT))
    assert [error["id"] for error in refused.value.members["errors"]] == ["a"]  # type: ignore[attr-defined]
    assert stored(collection, "d") is None


def test_updating_makes_no_collection(database_url: str) -> None:
    database, catalog = catalog_of(database_url)
    with pytest.raises(CollectionNotFound):
        catalog.ingest("new", [item("a", 0)], Terms(mode=WriteMode.UPDATE))
    assert catalog.count() == 0
    database.close()


def test_a_request_sent_twice_is_done_once(collection: Collection) -> None:
    once = Terms(once=OnceKey("key", b"x" * 16))
    batch = [item("a", 0), NewItem("bad", None, VECTORS[0][:2], {})]
    first = collection.ingest(batch, once)
    collection.ingest([item("a", 1)])  # a later writer, whom the repeated request must not undo
    again = collection.ingest(batch, once)
    assert outcomes(again) == outcomes(first) == ["inserted", "rejected"]
    assert (again.seq, again.results[1].error and again.results[1].error.detail) == (
        first.seq,
        first.results[1].error and first.results[1].error.detail,
    )
    assert stored(collection, "a") == ('{"v":1}', 2)
    with pytest.raises(KeyReused):
        collection.ingest([item("b", 2)], Terms(once=OnceKey("key", b"y" * 16)))


def test_a_repeat_of_what_changed_nothing_undoes_no_later_change(collection: Collection) -> None:
    collection.ingest([item("a", 0)])
    once = Terms(once=OnceKey("key", b"x" * 16))
    assert outcomes(collection.ingest([item("a", 0)], once)) == ["unchanged"]
    collection.ingest([item("a", 1)])
    assert outcomes(collection.ingest([item("a", 0)], once)) == ["unchanged"]
    assert stored(collection, "a") == ('{"v":1}', 2)


def test_racing_repeats_are_done_once(collection: Collection) -> None:
    def send(_: int) -> Receipt:
        return collection.ingest([item(f"i{n}", n) for n in range(5)], Terms(once=OnceKey("key", b"x" * 16)))

    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(send, range(8)))
    assert {receipt.seq for receipt in receipts} == {5}
    assert all(receipt.count(ItemStatus.INSERTED) == 5 for receipt in receipts)


def test_a_change_that_never_comes_is_not_waited_for_for_ever(collection: Collection) -> None:
    collection.ingest([item("a", 0)])
    assert collection.follower.view(1).applied_seq == 1
    with pytest.raises(Unavailable, match="come to seq 1, not to 2"):
        collection.follower.view(2, wait_seconds=0.05)


def test_conditions_over_http(server: Server, name: str) -> None:
    def send(body: object, key: str) -> tuple[int, dict[str, object]]:
        answer = server.client.post("/ingest", json=body, headers={"Idempotency-Key": key})
        return answer.status_code, answer.json()

    body = {"collection": name, "items": [{"vector": [1.0, 2.0]}]}  # the id is made, and must be the same again
    first = send(body, f"{name}-1")
    assert first == send(body, f"{name}-1")
    assert send(body, f"{name}-2")[1] != first[1]
    assert server.get(f"/collections/{name}")["items"] == 2
    status, refused = send({"collection": name, "items": [{"vector": [1.0, 3.0]}]}, f"{name}-1")
    assert (status, refused["field"]) == (409, "Idempotency-Key")

    given = {"id": "a", "vector": [3.0, 1.0]}
    assert server.post("/ingest", {"collection": name, "items": [given | {"if_seq": 0}]})["seq"] == 3
    refused = server.post("/ingest", {"collection": name, "items": [given | {"if_seq": 0}]}, 409)
    assert refused["field"] == "items[0].if_seq"
    assert server.get(f"/collections/{name}/items/a")["seq"] == 3
    patch = {"metadata": {"x": 1}}
    assert server.client.patch(f"/collections/{name}/items/a?if_seq=2", json=patch).status_code == 409
    assert server.client.patch(f"/collections/{name}/items/a?if_seq=3", json=patch).json()["seq"] == 4
    assert server.client.delete(f"/collections/{name}/items/a?if_seq=3").status_code == 409
    query = {"collection": name, "vector": [3.0, 1.0], "k": 1}
    assert server.post("/search", query | {"min_seq": 4})["hits"][0]["id"] == "a"
    late = server.post("/search", query | {"min_seq": 5, "wait_ms": 30}, 503)
    assert late["field"] == "min_seq"
    assert server.client.delete(f"/collections/{name}/items/a?if_seq=4").status_code == 204

    line = '{"id": "s", "vector": [1, 1]}\n'
    keyed = {"content-type": "application/x-ndjson", "Idempotency-Key": "x"}
    streamed = server.client.post(f"/ingest?collection={name}", content=line, headers=keyed)
    assert (streamed.status_code, streamed.json()["field"]) == (422, "Idempotency-Key")
    for status_of in ("inserted", "rejected"):
        answer = server.client.post(
            f"/ingest?collection={name}&mode=insert", content=line, headers={"content-type": "application/x-ndjson"}
        )
        assert answer.json()["counts"][status_of] == 1
