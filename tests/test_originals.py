"""Vectors kept as float16, or dropped: what is found, what is refused, and how much disk is left in use."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from models import Metric, exact_neighbours
from service.collection import Collection
from service.errors import InvalidInput, OriginalsDropped
from service.generation import Build
from service.index.segment import IndexKind
from service.item import NewItem
from service.jobs import Jobs
from service.originals import KEPT_SAMPLE, Originals, decoded
from service.query import Example, Query
from service.search import Plan, Stage
from service.store import payload
from service.store.tables import GenerationRow
from tests.conftest import Server, clustered
from tests.test_collection import catalog_of

DIM = 64
VECTORS = clustered(1_500, DIM, seed=3)
TINY = {"codec": {"bytes": 32}, "training": {"epochs": 3}}


def items(rows: range) -> list[NewItem]:
    return [NewItem(str(row), None, VECTORS[row], {}) for row in rows]


def found(collection: Collection, query: Query) -> list[str]:
    return [hit.item.item_id for hit in collection.search([query])[0].hits]


def by_vector(row: int, kind: IndexKind = IndexKind.FAISS, stage: Stage | None = None) -> Query:
    return Query((Example(vector=VECTORS[row]),), Plan(10, 10, kind, stage))


def ignore(_: float, __: str) -> None:
    pass


def test_float16_keeps_half_of_the_bytes_and_the_neighbours(database_url: str, tmp_path: Path) -> None:
    database, catalog = catalog_of(database_url)
    collection = catalog.create("c", dimension=DIM, metric=Metric.L2, originals=Originals.FLOAT16)
    collection.ingest(items(range(1_000)))
    with database.reading() as session:
        stored = payload.vectors_by_row(session, collection.id, [7])[7]
    assert len(stored) == 2 * DIM
    (hit,) = collection.get(["6"], vectors=True)
    assert hit is not None
    assert hit.vector is not None
    np.testing.assert_array_equal(hit.vector, VECTORS[6].astype(np.float16).astype(np.float32))
    kept = VECTORS[:1_000].astype(np.float16).astype(np.float32)
    for trained in (False, True):
        if trained:
            Build(database, collection.id, TINY, tmp_path / "scratch", ignore).run(10_000)
            collection.follower.catch_up()
        for row in (3, 500):
            truth = exact_neighbours(kept, VECTORS[row : row + 1], 10, Metric.L2).rows[0]
            assert found(collection, by_vector(row, IndexKind.EXACT)) == [str(near) for near in truth]
            assert len(set(found(collection, by_vector(row))) & {str(near) for near in truth}) >= 9
    database.close()


@pytest.mark.parametrize("number", [1e5, 1e-7])
def test_what_float16_cannot_hold_is_refused(number: float, tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("c", dimension=2, metric=Metric.L2, originals=Originals.FLOAT16)
    receipt = collection.ingest(
        [NewItem("bad", None, np.full(2, number, np.float32), {}), NewItem("zero", None, np.zeros(2, np.float32), {})]
    )
    assert [result.status.value for result in receipt.results] == ["rejected", "inserted"]
    error = receipt.results[0].error
    assert isinstance(error, InvalidInput)
    assert (error.field, "float16" in error.detail) == ("items[0].vector", True)
    database.close()


def test_dropped_vectors_leave_codes_that_are_searched(database_url: str, tmp_path: Path) -> None:
    database, catalog = catalog_of(database_url)
    collection = catalog.create("c", dimension=DIM, metric=Metric.L2, originals=Originals.DROP)
    collection.ingest(items(range(1_000)))
    assert found(collection, by_vector(5, IndexKind.EXACT))[0] == "5"  # until there is a codec, all is as ever
    result = Build(database, collection.id, TINY, tmp_path / "scratch", ignore).run(10_000)
    assert list(result["certificate"]["recall@10"]["faiss"]) == ["refine"]
    collection.follower.catch_up()
    collection.ingest(items(range(1_000, 1_200)))
    collection.ingest([NewItem("5", None, VECTORS[1_300], {})])
    with database.reading() as session:
        assert payload.count_rows(session, collection.id) == 999  # the sample, here all of them but the replaced one

    names = [str(row) for row in range(1_200) if row != 5] + ["5"]
    base = VECTORS[[*(row for row in range(1_200) if row != 5), 1_300]]
    hits = []
    for row in range(1_400, 1_430):
        truth = exact_neighbours(base, VECTORS[row : row + 1], 10, Metric.L2).rows[0]
        hits.append(len(set(found(collection, by_vector(row))) & {names[near] for near in truth}) / 10)
    assert np.mean(hits) > 0.7
    (late,) = collection.get(["1100"], vectors=True)
    assert late is not None
    assert late.vector is None
    assert "1100" not in found(collection, Query((Example(id="1100"),), by_vector(0).plan))
    for query, field in ((by_vector(1, IndexKind.EXACT), "index"), (by_vector(1, stage=Stage.RESCORE), "stage")):
        with pytest.raises(OriginalsDropped) as refused:
            collection.search([query])
        assert refused.value.field == field
    with pytest.raises(OriginalsDropped):
        Jobs(database).submit("c", "train", {})
    again = Build(database, collection.id, TINY, tmp_path / "scratch", ignore).run(10_000)  # a job that was cut off
    figures = [(made["generation"], made["certificate"]["recall@10"]) for made in (again, result)]
    assert figures[0] == figures[1]
    database.close()


def test_the_file_shrinks_and_a_sample_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.generation.KEPT_SAMPLE", 100)
    assert KEPT_SAMPLE == 20_000
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("c", dimension=1_024, originals=Originals.DROP)
    wide = clustered(2_000, 1_024, seed=4)
    for first in range(0, 2_000, 500):
        collection.ingest([NewItem(str(row), None, wide[row], {}) for row in range(first, first + 500)])
    database.close()
    before = (tmp_path / "codewell.db").stat().st_size
    Build(database, collection.id, TINY, tmp_path / "scratch", ignore).run(10_000)
    with database.reading() as session:
        codec_bytes = len(session.scalars(select(GenerationRow.codec)).one())
        left = payload.vectors_after(session, collection.id, 0, 5_000)
        assert [row for row, _ in left] == list(range(20, 2_001, 20))
        np.testing.assert_array_equal(decoded([left[0][1]], 1_024)[0], wide[19])
    database.close()
    after = (tmp_path / "codewell.db").stat().st_size
    assert before > 2_000 * 4_096
    assert after - codec_bytes < before / 5
    database.close()


def test_dropped_originals_over_http(server: Server, name: str) -> None:
    made = server.post("/collections", {"name": name, "dimension": DIM, "metric": "l2", "originals": "drop"}, 201)
    assert made["originals"] == "drop"
    given = [{"id": str(row), "vector": VECTORS[row].tolist()} for row in range(500)]
    server.post("/ingest", {"collection": name, "items": given})
    server.trained(name, **TINY)
    query = {"collection": name, "vector": VECTORS[3].tolist(), "k": 5}
    assert "3" in [hit["id"] for hit in server.post("/search", query)["hits"]]
    assert server.post("/search", query | {"stage": "rescore"}, 409)["field"] == "stage"
    assert server.post(f"/collections/{name}/train", {}, 409)["title"] == "Originals dropped"
