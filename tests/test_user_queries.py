"""Codecs measured by queries like those of users: given ones, and those that were asked where that is wanted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models import Metric, estimated, exact_neighbours
from service import lookout as lookout_module
from service.cli import app
from service.collection import Collection
from service.generation import Build
from service.index.segment import IndexKind
from service.jobs import Jobs
from service.lookout import Lookout
from service.metrics import Metrics
from service.notices import Notices
from service.planner import Planner
from service.planning.plan import Plan
from service.planning.point import Trial
from service.planning.wish import PlanSpec
from service.query import Example, Query
from service.recent import LOGGED, RecentQueries
from service.search import OVERSAMPLE
from service.search import Plan as SearchPlan
from service.settings import Settings
from service.store import queries
from service.store.queries import Held
from service.user_queries import FEWEST, fewest, user_queries
from tests.conftest import Server, clustered
from tests.test_api_problems import problem
from tests.test_collection import catalog_of, item

DIM, ITEMS = 8, 600
BODY = {"codec": {"kind": "dense", "bytes": 4}, "training": {"epochs": 1}}
OTHERS = np.random.default_rng(0).standard_normal((200, DIM)).astype(np.float32)
"""Unlike the items: codes keep less of their neighbours."""


@pytest.fixture
def catalog(database_url: str) -> Any:
    database, catalog = catalog_of(database_url)
    yield catalog
    database.close()


@pytest.fixture
def collection(catalog: Any) -> Any:
    made = catalog.create("c", dimension=DIM)
    made.ingest([item(str(n), vector) for n, vector in enumerate(clustered(ITEMS, DIM))])
    return made


def built(collection: Collection, scratch: Path) -> Any:
    database = collection._database
    return Build(database, collection.id, BODY, scratch, lambda *_: None).run(10_000)["certificate"]


def asked(collection: Collection, vectors: Any) -> None:
    plan = SearchPlan(1, OVERSAMPLE, IndexKind.EXACT, None)
    collection.search([Query((Example(vector=vector),), plan) for vector in vectors])


def test_a_certificate_is_measured_by_given_queries_where_there_are_enough(
    collection: Collection, tmp_path: Path
) -> None:
    of = collection._database, collection.id, DIM, Metric.COSINE
    collection.give_queries(list(OTHERS[: FEWEST - 1]), "vectors")
    collection.give_queries(list(OTHERS[: FEWEST - 1]), "vectors")
    assert collection.held_queries() == Held(2 * (FEWEST - 1), 0)
    collection.give_queries([vector * 3 for vector in OTHERS[: FEWEST - 1]], "vectors")
    assert user_queries(*of, {}) is None, "the same query twice, or longer, says nothing more"
    by_items = built(collection, tmp_path / "1")
    assert (by_items["measured_by"], by_items["queries"], by_items["items"]) == ("items", 30, ITEMS)

    collection.give_queries(list(OTHERS), "vectors")
    by_queries = built(collection, tmp_path / "2")
    assert (by_queries["measured_by"], by_queries["queries"], by_queries["items"]) == ("queries", 200, ITEMS)
    given = user_queries(*of, {10: 0.9})
    assert given is not None
    prepared = OTHERS / np.linalg.norm(OTHERS, axis=1, keepdims=True)
    assert sorted(map(tuple, given.vectors.round(3))) == sorted(map(tuple, prepared.round(3)))
    # What the certificate says of the refine stage is what a search there finds.
    truth = exact_neighbours(clustered(ITEMS, DIM), OTHERS, 10, Metric.COSINE).rows
    plan = SearchPlan(10, OVERSAMPLE, IndexKind.FAISS, None)
    answers = collection.search([Query((Example(vector=vector),), plan) for vector in OTHERS])
    found = [{int(hit.item.item_id) for hit in answer.hits} for answer in answers]
    recall = np.mean([len(hits & set(rows)) / 10 for hits, rows in zip(found, truth.tolist(), strict=True)])
    assert by_queries["intervals"]["recall@10"]["value"] == pytest.approx(recall, abs=0.002)

    asked(collection, OTHERS[:60])
    drift = collection.drift()
    assert drift is not None
    assert drift.queries is not None
    assert drift.queries.status == "fresh", "they are what it was certified by"
    collection.forget_queries()
    assert collection.held_queries() == Held(0, 0)


def test_the_newest_are_kept(catalog: Any, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MOST", 50)
    for start in range(0, 120, 40):
        collection.give_queries(list(OTHERS[start : start + 40]), "vectors")
    assert collection.held_queries() == Held(50, 0)
    collection.give_queries(list(OTHERS), "vectors")
    with collection._database.reading() as session:
        kept = queries.newest(session, collection.id)
    assert kept == [vector.tobytes() for vector in OTHERS[:149:-1]]
    catalog.set_log_queries("c", True)
    asked(collection, OTHERS[:5])
    collection.log_queries(catalog.logged()[collection.id])
    assert collection.held_queries() == Held(50, 5), "logged ones drive no given ones out"
    with collection._database.reading() as session:
        kept = queries.newest(session, collection.id)
    assert kept[50:] == [vector.tobytes() for vector in OTHERS[4::-1]]


def test_what_is_asked_is_logged_from_when_somebody_agrees_and_no_longer(
    catalog: Any, collection: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lookout_module, "EVERYTHING_SECONDS", 0)
    database = collection._database
    notices = Notices(database, wanted=False)
    lookout = Lookout(Settings(data_dir=tmp_path), catalog, Jobs(database), Metrics(), notices)

    def minute(vectors: Any) -> Held:
        asked(collection, vectors)
        lookout._log_queries()
        return collection.held_queries()

    assert minute(OTHERS[:30]) == Held(0, 0)
    catalog.set_log_queries("c", True)
    assert minute(OTHERS[30:60]) == Held(0, 0), "some of these were asked before"
    assert minute(OTHERS[60:100]) == Held(0, LOGGED)
    assert minute(OTHERS[:0]) == Held(0, LOGGED)
    assert minute(OTHERS[100:103]) == Held(0, LOGGED + 3)
    with collection._database.reading() as session:
        kept = queries.newest(session, collection.id)
    assert kept[-2:] == [OTHERS[64].tobytes(), OTHERS[60].tobytes()]
    assert kept[:4] == [vector.tobytes() for vector in (*OTHERS[102:99:-1], OTHERS[99])]
    catalog.set_log_queries("c", False)
    asked(collection, OTHERS[110:140])
    catalog.set_log_queries("c", True)
    assert minute(OTHERS[:0]) == Held(0, LOGGED + 3), "it was off for a while"
    asked(collection, OTHERS[140:150])
    collection.forget_queries()
    assert minute(OTHERS[:0]) == Held(0, 0), "all of them"
    assert minute(OTHERS[150:153]) == Held(0, 3)
    catalog.set_log_queries("c", False)
    assert minute(OTHERS[160:190]) == Held(0, 3)
    for change in (collection.forget_queries, lambda: catalog.set_log_queries("c", False)):
        catalog.set_log_queries("c", True)
        epoch = catalog.logged()[collection.id]
        asked(collection, OTHERS[:20])
        change()
        before = collection.held_queries()
        collection.log_queries(epoch)
        assert collection.held_queries() == before, "between the look and the writing"


def test_a_contract_is_measured_by_as_many_queries_as_can_keep_it(collection: Collection) -> None:
    of = collection._database, collection.id, DIM, Metric.COSINE
    collection.give_queries(list(OTHERS), "vectors")
    for least, needed in ((0.5, 100), (0.9, 70), (0.95, 146), (0.96, 186), (0.97, 250), (0.99, 762)):
        assert fewest({10: 0.2, 1: least}) == max(100, needed)
        none_missed = estimated(np.ones(fewest({10: least}) // 2)).low
        assert none_missed >= least
        assert (user_queries(*of, {10: least}) is None) == (needed > 200)


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_queries_of_any_length_are_told_apart(catalog: Any, scale: float) -> None:
    made = catalog.create("l2", dimension=DIM, metric=Metric.L2)
    made.give_queries([*(vector * scale for vector in OTHERS), OTHERS[7] * scale], "vectors")
    told = user_queries(made._database, made.id, DIM, Metric.L2, {})
    assert told is not None
    assert {vector.tobytes() for vector in told.vectors} == {(vector * scale).tobytes() for vector in OTHERS}
    assert len(told.vectors) == len(OTHERS)


def test_of_more_than_are_kept_some_are_logged() -> None:
    recent = RecentQueries()
    for vector in clustered(1_000, DIM):
        recent.add(vector)
    assert len(recent.fresh(DIM)) == LOGGED
    assert len(recent.fresh(DIM)) == 0


def test_a_plan_asks_them_too(collection: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trials: list[Trial] = []
    monkeypatch.setattr(Plan, "run", lambda plan, _: trials.append(plan.trial))

    def planned(least: float) -> Trial:
        wish = PlanSpec.model_validate({"contract": {"recall@10": least}})
        Planner(collection._database, collection.id, wish, Settings(data_dir=tmp_path)).run(lambda *_: None)
        return trials.pop()

    assert len(planned(0.9).sample.queries) == ITEMS // 10
    collection.give_queries(list(OTHERS), "vectors")
    assert len(planned(0.99).sample.queries) == ITEMS // 10, "200 cannot show so much"
    trial = planned(0.9)
    assert len(trial.sample.queries) == 200
    assert np.allclose(np.linalg.norm(trial.sample.queries, axis=1), 1)
    assert len(trial.sample.seen) + len(trial.sample.late) == ITEMS, "no item is one"


def test_over_http_and_by_command(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server(TFIDF_DIMENSION="64")
    path = "/collections/c/queries"
    server.post("/collections", {"name": "c", "encoder": "tfidf"}, 201)
    server.post("/ingest", {"collection": "c", "items": [{"text": f"word{n} and word{n + 1}"} for n in range(300)]})
    assert server.post(path, {"texts": ["word1", "word2 word3"]}) == {"given": 2, "logged": 0}
    assert server.post(path, {"vectors": [[0.5] * 64]}) == {"given": 3, "logged": 0}
    for body, status, field, said in (
        ({}, 422, "texts", "either"),
        ({"texts": []}, 422, "texts", "empty"),
        ({"vectors": [[0.5] * 63]}, 422, "vectors[0]", "64"),
        ({"vectors": [[0.0] * 63 + [None]]}, 422, "vectors[0]", "position 63"),
    ):
        problem(server.client.post(path, json=body), status, field, said)
    problem(server.client.post("/collections/none/queries", json={"texts": ["a"]}), 404, "collection")
    assert server.get(path) == {"given": 3, "logged": 0}

    def run(*given: str) -> Any:
        return CliRunner().invoke(app, ["queries", "c", *given, "--url", server.url])

    file = tmp_path / "q.ndjson"
    lines: list[dict[str, Any]] = [{"text": f"word{n}"} for n in range(120)]
    file.write_text("\n\n".join(map(json.dumps, [*lines, {"vector": [0.25] * 64}])), encoding="utf-8")
    told = run(str(file))
    assert (told.exit_code, json.loads(told.stdout)) == (0, {"collection": "c", "given": 124, "logged": 0})
    file.write_text('{"text": "a"}\n{"query": "b"}\n')
    wrong = run(str(file))
    assert (wrong.exit_code, "line 2" in wrong.stderr) == (2, True)
    assert json.loads(run().stdout)["given"] == 124, "the line before it was not sent"
    result = server.trained("c", **BODY)
    assert (result["certificate"]["measured_by"], result["certificate"]["queries"]) == ("queries", 122)
    assert json.loads(run("--forget").stdout)["given"] == 0
    changed = server.client.patch("/collections/c", json={"log_queries": True})
    assert (changed.status_code, changed.json()["log_queries"]) == (200, True)
    problem(server.client.patch("/collections/c", json={"log_queries": None}), 422, "log_queries", "required")
    assert server.client.patch("/collections/c", json={"log_queries": False}).json()["log_queries"] is False
    assert server.client.delete(path).status_code == 204
