"""A collection over a real SQLite file or PostgreSQL equals a dict searched exactly, here and where it is followed."""

from collections.abc import Sequence
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from models import Metric, TrainingStopped, Vectors, exact_neighbours
from service.catalog import Catalog
from service.collection import Collection
from service.errors import BatchRejected, InvalidInput, ItemNotFound, NoEncoder, OtherEncoder, Unavailable
from service.filter import parsed
from service.filter_follower import FilterFollower
from service.generation import Build
from service.index.filters import FilterView
from service.index.segment import IndexKind
from service.index.view import View
from service.item import Malformed, NewItem
from service.query import Example, Mode, Query
from service.receipt import ItemStatus
from service.search import Plan, Stage
from service.searcher import LOOKS
from service.span import Span
from service.store import schema, store
from service.store.bulk import Reads
from service.store.database import Database
from service.store.tables import CodeRow, GenerationRow
from service.terms import Terms
from service.text.encoder import Encoded
from tests.conftest import clustered

DIM = 8
VECTORS = clustered(400, DIM)


def catalog_of(where: Path | str) -> tuple[Database, Catalog]:
    """Over a folder's SQLite file, or the database of a URL."""
    database = Database(where if isinstance(where, str) else f"sqlite:///{where / 'codewell.db'}")
    schema.upgrade(database)
    return database, Catalog(database, {}, Semaphore(), 1024, None)


def item(item_id: str, vector: Vectors, **metadata: Any) -> NewItem:
    return NewItem(item_id, None, vector, metadata)


def nearest(collection: Collection, vector: Vectors, k: int, kind: IndexKind = IndexKind.FAISS) -> list[str]:
    query = Query((Example(vector=vector),), Plan(k, 10, kind, Stage.RESCORE))
    return [hit.item.item_id for hit in collection.search([query])[0].hits]


@pytest.fixture
def collection(tmp_path: Path) -> Any:
    database, catalog = catalog_of(tmp_path)
    yield catalog.create("c", dimension=DIM)
    database.close()


def test_a_bad_item_is_rejected_alone_and_named(collection: Collection) -> None:
    receipt = collection.ingest(
        [
            item("good", VECTORS[0]),
            item("short", VECTORS[0][:3]),
            item("nan", np.array([np.nan] * DIM, np.float32)),
            item("zero", np.zeros(DIM, np.float32)),
            item("good", VECTORS[1]),
            NewItem("words", "some text", None, {}),
            Malformed(None, InvalidInput("unreadable", field="items[6]")),
        ]
    )
    assert [result.status.value for result in receipt.results] == ["inserted", *["rejected"] * 6]
    fields = [result.error.field for result in receipt.results if result.error is not None]
    assert fields == [*(f"items[{n}].vector" for n in (1, 2, 3)), "items[4].id", "items[5].text", "items[6]"]
    assert nearest(collection, VECTORS[0], 5) == ["good"]


def test_an_atomic_batch_with_a_bad_item_writes_nothing(collection: Collection) -> None:
    with pytest.raises(BatchRejected, match="atomic") as refused:
        collection.ingest([item("a", VECTORS[0]), item("b", VECTORS[0][:2])], Terms(atomic=True))
    assert refused.value.members["errors"] == [
        {
            "position": 1,
            "id": "b",
            "field": "items[1].vector",
            "detail": "the collection takes vectors of 8 numbers, this one has 2",
        }
    ]
    assert collection.get(["a"]) == [None]


def test_a_query_by_id_finds_the_others(collection: Collection) -> None:
    collection.ingest([item(str(v), VECTORS[v]) for v in range(50)])
    query = Query((Example(id="7"),), Plan(5, 10, IndexKind.FAISS, Stage.RESCORE))
    (answer,) = collection.search([query])
    truth = exact_neighbours(VECTORS[:50], VECTORS[7:8], 6, Metric.COSINE).rows[0]
    assert [hit.item.item_id for hit in answer.hits] == [str(v) for v in truth if v != 7][:5]
    assert answer.partial_reason is None
    with pytest.raises(ItemNotFound):
        collection.search([Query((Example(id="none"),), query.plan)])


@pytest.mark.parametrize(("times", "short"), [(1, 0), (LOOKS, 1)], ids=["once", "each-time"])
def test_a_hit_that_goes_during_the_search_makes_room_for_the_next(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, short: int
) -> None:
    """Another process deletes the nearest between the search and the reading of its documents."""
    database, catalog = catalog_of(tmp_path)
    collection.ingest([item(str(n), VECTORS[n]) for n in range(50)])
    order = nearest(collection, VECTORS[7], 20)
    doomed, read = iter(order[:times]), store.items_by_row

    def late(database: Reads, collection_id: int, rows: Sequence[int]) -> dict[int, store.Item]:
        if (gone := next(doomed, None)) is not None:
            catalog.open("c").delete([gone])
        return read(database, collection_id, rows)

    monkeypatch.setattr(store, "items_by_row", late)
    query = Query((Example(vector=VECTORS[7]),), Plan(10, 10, IndexKind.FAISS, Stage.RESCORE))
    (answer,) = collection.search([query])
    assert [hit.item.item_id for hit in answer.hits] == order[times : times + 10 - short]
    assert answer.partial_reason == (f"{short} items were deleted or replaced during the search" if short else None)
    database.close()


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.TEXT])
def test_an_item_that_is_being_replaced_is_found_by_filters_and_words(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """It is replaced when the search has its view of codes, and has not looked for those of filters and words."""

    def version(text: str) -> NewItem:
        return NewItem("7", text, VECTORS[7], {"kind": "a"})

    collection.ingest([item(str(n), VECTORS[n]) for n in range(7)])
    collection.ingest([version("an old text")])
    wanted, plan = parsed({"kind": "a"}), Plan(3, 10, IndexKind.FAISS, Stage.RESCORE)
    query = Query((Example(vector=VECTORS[7]),), plan, filter=wanted)
    if mode is Mode.TEXT:
        query = Query((), plan, mode=mode, text="text")
    collection.search([query])
    read, late = collection.follower.view, iter([version("a new text")])

    def view(*given: Any) -> View:
        found = read(*given)
        for one in late:
            collection.ingest([one])
        return found

    monkeypatch.setattr(collection.follower, "view", view)
    (answer,) = collection.search([query])
    assert [hit.item.text for hit in answer.hits] == ["a new text"]


def test_a_filtered_list_has_what_is_replaced_meanwhile(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.ingest([item(str(n), VECTORS[n], kind="a") for n in range(4)])
    read, late = FilterFollower.view, iter([item("3", VECTORS[9], kind="a")])

    def view(follower: FilterFollower, seq: int) -> FilterView:
        for one in late:
            collection.ingest([one])
        return read(follower, seq)

    monkeypatch.setattr(FilterFollower, "view", view)
    hits, after = collection.scroll(parsed({"kind": "a"}), 0, 10)
    assert ([hit.item.item_id for hit in hits], after) == (["0", "1", "2", "3"], None)


def test_text_needs_an_encoder(collection: Collection) -> None:
    with pytest.raises(NoEncoder) as refused:
        collection.search([Query((Example("words", field="queries[0]."),), Plan(1, 1, IndexKind.FAISS, Stage.RESCORE))])
    assert refused.value.field == "queries[0].text"


def test_equal_scores_come_in_the_order_of_ingest(collection: Collection) -> None:
    collection.ingest([item(name, VECTORS[0]) for name in ("z", "a", "m")])
    collection.ingest([item("b", VECTORS[0])])
    assert nearest(collection, VECTORS[0], 4) == ["z", "a", "m", "b"]
    assert nearest(collection, VECTORS[0], 2) == ["z", "a"]


def test_a_published_generation_answers_as_exact_search_does(database_url: str, tmp_path: Path) -> None:
    database, catalog = catalog_of(database_url)
    collection = catalog.create("c", dimension=DIM, metric=Metric.L2)
    collection.ingest([item(str(v), VECTORS[v]) for v in range(300)])

    def change_meanwhile(_: float, message: str) -> None:
        if message == "measuring recall":  # after everything was encoded, before it is published
            collection.ingest([item(str(v), VECTORS[v]) for v in range(300, 320)])
            collection.ingest([item("5", VECTORS[399])])
            collection.delete(["6", "7"])

    parameters = {"codec": {"bytes": 8}, "training": {"epochs": 2}}
    result = Build(database, collection.id, parameters, tmp_path / "scratch", change_meanwhile).run(10_000)
    assert result["certificate"]["code_bytes"] == 8
    assert collection.follower.catch_up().generation_id == result["generation"]
    collection.ingest([item(str(v), VECTORS[v]) for v in range(320, 350)])

    vectors = {str(v): VECTORS[v] for v in range(350) if v not in (6, 7)} | {"5": VECTORS[399]}
    names = list(vectors)
    for query in clustered(10, DIM, 5):
        truth = exact_neighbours(np.array(list(vectors.values())), query[None], 10, Metric.L2).rows[0]
        wanted = {names[row] for row in truth}
        assert set(nearest(collection, query, 10, IndexKind.EXACT)) == wanted
        assert len(set(nearest(collection, query, 10)) & wanted) >= 9
    reopened = catalog_of(database_url)
    again = reopened[1].open("c")
    assert len(again.follower.view()) == 348
    assert nearest(again, VECTORS[399], 1) == ["5"]
    reopened[0].close()
    database.close()


def test_what_is_committed_is_acknowledged_even_where_it_cannot_be_followed(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.ingest([item("a", VECTORS[0])])
    assert nearest(collection, VECTORS[0], 2) == ["a"]

    def fail() -> None:
        raise Unavailable("the database cannot be reached; try again")

    with monkeypatch.context() as patch:
        patch.setattr(collection.follower, "catch_up", fail)
        assert collection.ingest([item("b", VECTORS[0])]).count(ItemStatus.INSERTED) == 1
        assert collection.delete(["a"])[1] == {"a"}
    collection.follower.follow()  # as the poller does
    assert nearest(collection, VECTORS[0], 2) == ["b"]


def test_a_build_frees_the_codes_of_the_ones_before_it_that_are_not_kept(tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("c", dimension=DIM, metric=Metric.L2)
    collection.ingest([item(str(v), VECTORS[v]) for v in range(200)])
    parameters = {"codec": {"bytes": 8}, "training": {"epochs": 1}}

    def cut_off(_: float, message: str) -> None:
        if message == "measuring recall":
            raise TrainingStopped

    with pytest.raises(TrainingStopped):
        Build(database, collection.id, parameters, tmp_path / "1", cut_off).run(10_000)
    first = Build(database, collection.id, parameters, tmp_path / "2", lambda *_: None).run(10_000, keep=0)
    second = Build(database, collection.id, parameters, tmp_path / "3", lambda *_: None).run(10_000, keep=0)
    with database.reading() as session:
        kept = session.execute(select(CodeRow.generation_id, func.count()).group_by(CodeRow.generation_id)).all()
        states = list(session.scalars(select(GenerationRow.state).order_by(GenerationRow.id)))
    assert [tuple(row) for row in kept] == [(second["generation"], 200)]
    assert states == ["retired", "retired", "published"]
    assert first["generation"] < second["generation"]
    database.close()


def test_a_build_taken_up_again_keeps_the_vectors_it_began_with(tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("c", dimension=DIM, metric=Metric.L2)
    collection.ingest([item(str(v), VECTORS[v]) for v in range(200)])
    scratch = tmp_path / "scratch"

    def cut_off(_: float, message: str) -> None:
        if message.startswith("training: epoch 2"):
            raise TrainingStopped

    parameters = {"codec": {"bytes": 8}, "training": {"epochs": 4}}
    with pytest.raises(TrainingStopped):
        Build(database, collection.id, parameters, scratch, cut_off).run(10_000)
    before = np.load(scratch / "held_out.npz")["rows"].tolist(), np.load(scratch / "vectors.npy").tolist()
    collection.ingest([item("late", VECTORS[300])])
    result = Build(database, collection.id, parameters, scratch, lambda *_: None).run(10_000)
    assert (np.load(scratch / "held_out.npz")["rows"].tolist(), np.load(scratch / "vectors.npy").tolist()) == before
    assert result["certificate"]["items"] == 201
    database.close()


class Letters:
    """A text encoder whose vectors count letters; `identity` is what a test says."""

    name = "letters"
    dimension = 26
    window = None

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def spans(self, text: str) -> list[Span]:
        return [Span(place, place + 1) for place in range(len(text))]

    def encode(self, texts: Sequence[str]) -> Encoded:
        counts = [[text.count(chr(97 + letter)) + 0.01 for letter in range(26)] for text in texts]
        return Encoded(np.array(counts, np.float32), ["shortened" if len(text) > 10 else None for text in texts])


def test_another_model_than_the_collections_is_refused_by_name(tmp_path: Path) -> None:
    database = catalog_of(tmp_path)[0]
    made = Catalog(database, {"letters": Letters("v1")}, Semaphore(), 1024, "letters")
    receipt = made.ingest("c", [NewItem("a", "cab", None, {}), NewItem("b", "a long long text", None, {})])
    assert [result.warning for result in receipt.results] == [None, "shortened"]
    plan = Plan(2, 1, IndexKind.FAISS, Stage.RESCORE)
    (answer,) = made.open("c").search([Query((Example("abc"),), plan)])
    assert ([hit.item.item_id for hit in answer.hits], answer.warning) == (["a", "b"], None)
    assert made.open("c").search([Query((Example("abc" * 9),), plan)])[0].warning == "shortened"
    for encoders, words in (
        ({"letters": Letters("v2")}, "'v1' and this server has 'v2'"),
        ({}, "has none of that kind"),
    ):
        other = Catalog(database, encoders, Semaphore(), 1024, None).open("c")
        with pytest.raises(OtherEncoder, match=words):
            other.search([Query((Example("abc"),), plan)])
        with pytest.raises(OtherEncoder, match=words):
            other.ingest([NewItem("c", "text", None, {})])
        assert nearest(other, Letters("").encode(["cab"]).vectors[0], 1) == ["a"]
    database.close()
