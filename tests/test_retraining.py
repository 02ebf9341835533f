"""Trainings that a collection's policy begins: for drift and for nothing else, one at a time, as often as it says."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models import Vectors
from service.cli import app
from service.drift import Drift, Freshness, Look
from service.errors import OriginalsDropped
from service.job import JobKind, JobState
from service.job_queue import JobQueue
from service.jobs import Jobs
from service.lookout import LOOK_SECONDS
from service.originals import Originals
from service.retrain import RetrainSpec
from service.store import schema
from service.store.database import Database
from service.store.tables import CollectionRow
from tests.conftest import Server, clustered
from tests.test_api_problems import problem
from tests.test_several_servers import until
from tests.test_webhook import SECRET, Endpoint

DIM, HOUR = 16, 3_600.0
VECTORS = clustered(600, DIM, seed=3)
STALE = Drift(Freshness.STALE, 500, {"error": 2.5, "nearest": -1.5})
ASKED = {"codec": {"kind": "dense", "bytes": 4}, "training": {"seed": 7}}


class Kept:
    """A collection of 1,000 items with generation 1, whose newest items are stale, in a real database."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        schema.upgrade(self.database)
        self.jobs = Jobs(self.database)
        self.queue = JobQueue(self.database)
        row = CollectionRow(name="c", dimension=2, metric="l2", codec={}, row_count=1_000, seq=1_000, created_at=0.0)
        row.generation_id = 1
        with self.database.writing() as session:
            session.add(row)
        self.change(retrain={"when": "stale", "at_most_every_hours": 24})

    def change(self, **columns: Any) -> None:
        with self.database.writing() as session:
            row = session.get_one(CollectionRow, 1)
            for name, value in columns.items():
                setattr(row, name, value)

    def begun(self, drift: Drift = STALE, hours: float = 0, generation: int = 1) -> str | None:
        return self.jobs.submit_retraining(1, Look(generation, 1_000, drift), time.time() + hours * HOUR)

    def end(self, state: JobState, result: Any = None) -> None:
        claim = self.queue.claim("runner")
        assert claim is not None
        self.queue.finish(claim, state, "", result)


@pytest.fixture
def kept(database_url: str) -> Iterator[Kept]:
    made = Kept(database_url)
    yield made
    made.database.close()


def test_of_many_that_look_one_begins(kept: Kept) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: kept.begun(), range(16)))
    (job,) = kept.jobs.list("c")
    assert [one for one in ids if one is not None] == [job.id]
    assert (job.kind, job.state, job.parameters) == ("train", "queued", {})
    assert job.reason == {"drift": "stale", "items": 500, "shifts": {"error": 2.5, "nearest": -1.5}, "seq": 1_000}


def test_it_begins_only_where_the_policy_is_met(kept: Kept) -> None:
    assert kept.begun(Drift(Freshness.FRESH, 500, {})) is None
    assert kept.begun(Drift(Freshness.DRIFTING, 500, {})) is None
    assert kept.begun(generation=2) is None, "the look was at another codec"
    plan = kept.jobs.submit_plan("c", {})
    training = kept.jobs.submit("c", JobKind.TRAIN, {})
    assert kept.begun() is None, "one is queued"
    kept.jobs.cancel(training.id)
    kept.change(row_count=99)
    assert kept.begun() is None
    kept.change(row_count=1_000, retrain=None)
    assert kept.begun() is None
    kept.change(retrain={"when": "drifting", "at_most_every_hours": 1})
    begun = kept.begun(Drift(Freshness.DRIFTING, 60, {}))
    assert {job.id for job in kept.jobs.list("c")} == {plan.id, training.id, begun}


def test_a_refusal_is_not_tried_again_before_its_time_nor_without_new_items(kept: Kept) -> None:
    assert kept.begun() is not None
    kept.end(JobState.FAILED, {"generation": 2})
    kept.change(seq=1_500)
    assert kept.begun(hours=23.9) is None
    kept.change(seq=1_049)
    assert kept.begun(hours=24.1) is None, "the same items would be refused again"
    kept.change(seq=1_050)
    assert kept.begun(hours=24.1) is not None
    assert [job.reason and job.reason["seq"] for job in kept.jobs.list("c")] == [1_050, 1_000]


def test_it_is_asked_for_as_the_published_codec_was(kept: Kept) -> None:
    for generation, parameters in ((1, ASKED), (2, {})):
        kept.jobs.submit("c", JobKind.TRAIN, parameters)
        kept.end(JobState.SUCCEEDED, {"generation": generation})
    begun = kept.begun()
    assert begun is not None
    assert kept.jobs.get(begun).parameters == ASKED


def test_without_vectors_there_is_no_policy() -> None:
    RetrainSpec(when=Freshness.STALE).check(Originals.FLOAT16)
    with pytest.raises(OriginalsDropped):
        RetrainSpec(when=Freshness.STALE).check(Originals.DROP)


def test_a_policy_is_set_changed_and_refused_by_field(server: Server, name: str) -> None:
    about = {"name": name, "dimension": DIM, "metric": "l2"}
    path, policy = f"/collections/{name}", {"when": "drifting", "at_most_every_hours": 24}
    dropped = about | {"originals": "drop"}
    problem(server.client.post("/collections", json=dropped | {"retrain": policy}), 409, "retrain", "vectors")
    made = server.post("/collections", about | {"retrain": {"when": "drifting"}}, 201)
    assert made["retrain"] == server.get(path)["retrain"] == policy
    changed = server.client.patch(path, json={"retrain": {"when": "stale", "at_most_every_hours": 0.5}})
    assert (changed.status_code, changed.json()["retrain"]) == (200, {"when": "stale", "at_most_every_hours": 0.5})
    for body, field, said in (
        ({"retrain": {"when": "fresh"}}, "retrain.when", "stale"),
        ({"retrain": {"when": "stale", "at_most_every_hours": 0}}, "retrain.at_most_every_hours", "greater than 0"),
        ({"retrain": {}}, "retrain.when", "required"),
        ({"retrain": None, "codec": {"bytes": 4}}, "codec", "and no other"),
        ({"codec": None}, "codec", "required"),
    ):
        problem(server.client.patch(path, json=body), 422, field, said)
    assert server.get(path)["retrain"] == {"when": "stale", "at_most_every_hours": 0.5}
    assert server.client.patch(path, json={"retrain": None}).json()["retrain"] is None
    problem(server.client.patch("/collections/none", json={"retrain": None}), 404, "collection")
    server.post("/collections", dropped | {"name": f"{name}-dropped"}, 201)
    problem(server.client.patch(f"{path}-dropped", json={"retrain": policy}), 409, "retrain", "vectors")


def test_a_policy_is_set_and_ended_by_command(server: Server, name: str) -> None:
    server.post("/collections", {"name": name, "dimension": DIM, "metric": "l2"}, 201)

    def run(*given: str) -> Any:
        return CliRunner().invoke(app, ["retrain", name, "--url", server.url, *given])

    told = run("--when", "drifting", "--at-most-every-hours", "0.5")
    policy = {"when": "drifting", "at_most_every_hours": 0.5}
    assert (told.exit_code, json.loads(told.stdout)) == (0, {"collection": name, "retrain": policy})
    assert server.get(f"/collections/{name}")["retrain"] == policy
    hours = ("--at-most-every-hours", "3")
    for wrong in ((), ("--when", "stale", "--never"), ("--when", "fresh"), ("--never", *hours)):
        assert run(*wrong).exit_code == 2, wrong
    assert server.get(f"/collections/{name}")["retrain"] == policy
    assert run("--when", "stale", "--at-most-every-hours", "0").exit_code == 1
    daily = {"when": "stale", "at_most_every_hours": 24}
    assert json.loads(run("--when", "stale").stdout)["retrain"] == daily
    assert json.loads(run("--never").stdout) == {"collection": name, "retrain": None}
    assert server.get(f"/collections/{name}")["retrain"] is None


def test_shifted_items_train_once_and_more_of_the_same_do_not(new_server: Callable[..., Server]) -> None:
    endpoint = Endpoint()
    server = new_server(WORKERS="2", WEBHOOK_URL=endpoint.url, WEBHOOK_SECRET=SECRET)
    server.post("/collections", {"name": "c", "dimension": DIM, "metric": "l2", "retrain": {"when": "stale"}}, 201)

    def ingested(vectors: Vectors) -> str:
        server.post("/ingest", {"collection": "c", "items": [{"vector": row.tolist()} for row in vectors]})
        return str(server.get("/collections/c")["drift"]["status"])

    def jobs(least: int = 0) -> Any:
        """All of them once there are so many, and after a look at least."""
        end = time.monotonic() + (20 if least else 1.5 * LOOK_SECONDS)
        while time.monotonic() < end and not 0 < least <= len(server.get("/jobs")["jobs"]):
            time.sleep(0.05)
        return server.get("/jobs")["jobs"]

    server.post("/ingest", {"collection": "c", "items": [{"vector": row.tolist()} for row in VECTORS]})
    first = server.trained("c", codec={"bytes": 4, "decoder_hidden": []}, training={"epochs": 1, "seed": 7})
    assert ingested(clustered(150, DIM, seed=4)) == "fresh"
    assert [job["reason"] for job in jobs()] == [None]

    rng = np.random.default_rng(0)
    assert ingested((rng.standard_normal((350, DIM)) * VECTORS.std()).astype(np.float32)) == "stale"
    begun, asked = jobs(least=2)
    assert (asked["reason"], begun["kind"]) == (None, "train")
    assert (begun["reason"]["drift"], begun["reason"]["items"], begun["reason"]["seq"]) == ("stale", 500, 1_100)
    result = server.finished(begun["id"])["result"]
    assert server.get("/collections/c")["generation"] == result["generation"] > first["generation"]
    assert [result["certificate"][what] for what in ("code_bytes", "seed")] == [4, 7], "asked for as the first was"

    far = (rng.standard_normal((100, DIM)) * 5 * VECTORS.std()).astype(np.float32)
    assert ingested(far) == "stale"
    assert len(jobs()) == 2, "at most once in 24 hours"
    told = server.metrics()
    assert told['codewell_drift_status{collection="c"}'] == 2
    assert told['codewell_drift_shift{collection="c",figure="error",of="items"}'] > 0.8
    server.client.patch("/collections/c", json={"retrain": {"when": "stale", "at_most_every_hours": 0.0001}})
    last = jobs(least=3)[0]
    assert last["reason"]["seq"] == 1_200
    server.client.delete(f"/jobs/{last['id']}").raise_for_status()
    assert server.finished(last["id"])["state"] in ("cancelled", "succeeded")
    assert len(jobs()) == 3
    assert f"job {begun['id']} trains c again: its newest items are stale" in server.log.read_text()
    until(lambda: len(endpoint.got) >= 5, 10)
    endpoint.close()
    events = [(request.event["type"], request.event["data"]) for request in endpoint.got]
    ended = [(data["job"], data["reason"] is None) for kind, data in events if kind == "job.finished"]
    assert ended == [(asked["id"], True), (begun["id"], False), (last["id"], False)]
    drifted = [(data["generation"], data["before"], data["status"]) for kind, data in events if kind != "job.finished"]
    assert drifted == [(first["generation"], "fresh", "stale"), (result["generation"], "fresh", "stale")]
