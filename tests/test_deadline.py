"""A search whose time is over answers what it has and says what it lacks; with nothing, that it has nothing."""

from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest

from models import Metric
from service.api.search import answered
from service.api.search_schemas import QueryIn
from service.bootstrap import Codewell
from service.catalog import Catalog
from service.deadline import Deadline
from service.errors import OutOfTime
from service.filter import equal
from service.generation import Build
from service.index.segment import IndexKind
from service.item import NewItem
from service.permitted import Permitted
from service.query import Answer, Example, Mode, Query
from service.rights import EVERYTHING
from service.search import Plan, Stage
from service.settings import Settings
from service.store import schema
from service.store.database import Database
from tests.conftest import Server, clustered
from tests.test_api_problems import problem
from tests.test_originals import TINY, ignore

DIM = 8
VECTORS = clustered(1_200, DIM, seed=6)
PAGE = 1_000
PLAN = Plan(5, 10, IndexKind.FAISS, None)


@pytest.fixture(scope="module")
def computing() -> Semaphore:
    return Semaphore(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, computing: Semaphore) -> Any:
    """1,200 items with codes of 8 bytes; an exact search reads them in two blocks."""
    folder: Path = tmp_path_factory.mktemp("deadline")
    database = Database(f"sqlite:///{folder / 'codewell.db'}")
    schema.upgrade(database)
    collection = Catalog(database, {}, computing, 1024, None).create("c", dimension=DIM, metric=Metric.L2)
    collection.ingest([NewItem(str(n), f"word{n % 7}", VECTORS[n], {"n": n % 600}) for n in range(1_200)])
    Build(database, collection.id, {**TINY, "codec": {"bytes": 8}}, folder / "scratch", ignore).run(10_000)
    collection.follower.catch_up()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("service.reader.PAGE", PAGE)
        yield collection
    database.close()


def asked(row: int, kind: IndexKind = IndexKind.FAISS, stage: Stage | None = None, **more: Any) -> Query:
    return Query((Example(vector=VECTORS[row]),), Plan(5, 10, kind, stage), **more)


def none(*_: object, **__: object) -> None:
    raise Deadline(0).missed()


def ids(answer: Answer) -> list[str]:
    return [hit.item.item_id for hit in answer.hits]


def test_without_time_hits_are_ranked_by_codes(trained: Any) -> None:
    (whole,) = trained.search([asked(7)], deadline=Deadline(60))
    assert (whole.partial_reason, ids(whole)[0]) == (None, "7")
    (refined,) = trained.search([asked(7, stage=Stage.REFINE)])
    (cut,) = trained.search([asked(7)], deadline=Deadline(0))
    assert ids(cut) == ids(refined)
    assert [hit.score for hit in cut.hits] == [hit.score for hit in refined.hits]
    assert cut.partial_reason == "its time was over: hits are ranked by their codes, not by their original vectors"
    assert cut.seen == frozenset(), "a page that lacks something has no next one"
    (asked_for,) = trained.search([asked(7, stage=Stage.REFINE)], deadline=Deadline(0))
    assert asked_for.partial_reason is None, "it lacks nothing of what was asked for"


def test_an_exact_search_says_how_far_it_looked(trained: Any) -> None:
    (cut,) = trained.search([asked(7, IndexKind.EXACT)], deadline=Deadline(0))
    assert ids(cut)[0] == "7"
    assert cut.partial_reason == "its time was over: 1000 of 1200 vectors were looked at until then"
    assert all(int(found) < PAGE for found in ids(cut))
    (whole,) = trained.search([asked(1_100, IndexKind.EXACT)], deadline=Deadline(60))
    assert (whole.partial_reason, ids(whole)[0]) == (None, "1100")


def test_of_many_questions_the_first_are_answered(trained: Any) -> None:
    answers = trained.search([asked(row, stage=Stage.REFINE) for row in range(600)], deadline=Deadline(0))
    alone = trained.search([asked(row, stage=Stage.REFINE) for row in range(512)])
    assert [ids(answer) for answer in answers[:512]] == [ids(answer) for answer in alone]
    assert {answer.partial_reason for answer in answers[:512]} == {None}
    assert {answer.partial_reason for answer in answers[512:]} == {"its time was over: it was not looked for"}
    assert all(answer.hits == [] for answer in answers[512:])


def test_of_two_plans_the_first_is_followed(trained: Any) -> None:
    one, other = trained.search([asked(3, stage=Stage.REFINE), asked(4, stage=Stage.SHORTLIST)], deadline=Deadline(0))
    assert (len(one.hits), one.partial_reason) == (5, None)
    assert (other.hits, other.partial_reason) == ([], "its time was over: it was not looked for")


def test_buckets_are_looked_into_until_then(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.index.buckets.ROUND", 64)
    (whole,) = trained.search([probing(7, 1_000)], deadline=Deadline(60))
    cut, other = trained.search([probing(7, 1_000), probing(8, 1_000)], deadline=Deadline(0))
    read = cut.probed.probes
    assert cut.partial_reason == f"its time was over: {read} buckets were looked into until then"
    assert 0 < read < whole.probed.probes
    assert 0 < cut.probed.candidates < whole.probed.candidates
    assert ids(cut)[0] == "7"
    assert (other.hits, other.partial_reason) == ([], "its time was over: it was not looked for")
    assert (whole.partial_reason, other.probed.probes, other.probed.radius) == (None, 0, None)


def probing(row: int, probes: int) -> Query:
    return Query((Example(vector=VECTORS[row]),), Plan(5, 10, IndexKind.BUCKETS, Stage.REFINE, probes=probes))


def test_groups_are_those_that_were_found(trained: Any) -> None:
    # two items have each n; a filter leaves few, so that the first look does not find five groups
    query = asked(3, stage=Stage.REFINE, group_by="n", filter=equal("n", 3))
    (cut,) = trained.search([query], deadline=Deadline(0))
    assert {hit.group for hit in cut.hits} == {3}
    assert cut.partial_reason == "its time was over: 1 groups were found until then"


def test_who_gets_no_turn_has_nothing(trained: Any, computing: Semaphore) -> None:
    with computing:
        with pytest.raises(OutOfTime, match="nothing was found within 10 ms") as refused:
            trained.search([asked(7)], deadline=Deadline(0.01))
        assert (refused.value.status, refused.value.retry_after, refused.value.field) == (503, 1, "timeout_ms")
    (whole,) = trained.search([asked(7)], deadline=Deadline(60))
    assert ids(whole)[0] == "7"


def test_words_are_an_answer_where_vectors_get_no_turn(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    query = asked(7, mode=Mode.HYBRID, text="word3")
    monkeypatch.setattr(trained, "_neighbours", none)
    (cut,) = trained.search([query], deadline=Deadline(60))
    assert len(cut.hits) == 5
    assert {int(found) % 7 for found in ids(cut)} == {3}
    assert cut.partial_reason == "its time was over: only words were looked for"


def test_of_two_collections_the_first_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Codewell(Settings(data_dir=tmp_path, encoder="none")) as running:
        for name in ("a", "b"):
            running.catalog.ingest(name, [NewItem(name, None, VECTORS[0], {})])
        monkeypatch.setattr(running.catalog.open("b"), "search", none)
        asked = [(name, Query((Example(vector=VECTORS[0]),), PLAN), QueryIn()) for name in ("a", "b")]
        one, other = answered(asked, Permitted(running, EVERYTHING))
        assert ([hit.id for hit in one.hits], one.partial) == (["a"], False)
        assert (other.hits, other.partial_reason) == ([], "its time was over: it was not looked for")
        with pytest.raises(OutOfTime):
            answered(asked[::-1], Permitted(running, EVERYTHING))


def test_a_request_says_how_long(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0]}]})
    whole = server.post("/search", {"collection": name, "vector": [1, 0], "timeout_ms": 60_000})
    assert (whole["partial"], [hit["id"] for hit in whole["hits"]]) == (False, ["a"])
    waits = {"collection": name, "vector": [1, 0], "min_seq": 99, "wait_ms": 60_000, "timeout_ms": 1}
    problem(server.client.post("/search", json=waits), 503, "min_seq", "has come to seq 1, not to 99")
    problem(server.client.post("/search", json={"vector": [1, 0], "timeout_ms": 0}), 422, "timeout_ms", "greater than")
    lines = '{"vector": [1, 0], "timeout_ms": 1}\n{"vector": [0, 1], "min_seq": 99, "wait_ms": 60000, "timeout_ms": 1}'
    ndjson = {"content-type": "application/x-ndjson"}
    told = server.client.post(f"/search?collection={name}", content=lines, headers=ndjson)
    assert told.text.count('"status":503') == 2, "they are answered together, over one state"
