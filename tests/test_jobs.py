"""Jobs as rows that several runners share: who has one, who may end it, and who takes it up."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from models import TrainingStopped
from service.errors import Conflict
from service.generation import Build
from service.job import JobKind, JobState
from service.job_queue import Claim, JobQueue, fence
from service.jobs import Jobs
from service.originals import Originals
from service.runner import owner_of
from service.store import payload, schema, store
from service.store.database import Database
from service.store.tables import CollectionRow
from tests.postgres import Postgres
from tests.test_collection import VECTORS, catalog_of, item

TINY_8 = {"codec": {"bytes": 8}, "training": {"epochs": 2}}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    schema.upgrade(database)
    with database.writing() as session:
        session.add(
            CollectionRow(name="c", dimension=2, metric="l2", codec={}, item_count=1000, row_count=1000, created_at=0.0)
        )
    yield database
    database.close()


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


def test_one_runner_has_a_job(jobs: Jobs, queue: JobQueue) -> None:
    job = jobs.submit("c", "train", {})
    assert queue.claim("first") == Claim(job.id, 1)
    assert queue.claim("second") is None


def test_a_plan_is_no_training_and_goes_on_beside_one(jobs: Jobs, queue: JobQueue) -> None:
    plan = jobs.submit_plan("c", {"seed": 1})
    with pytest.raises(Conflict, match=f"job {plan.id} is under way"):
        jobs.submit_plan("c", {})
    jobs.submit_due_trainings(1_000)
    jobs.submit_due_trainings(1_000)
    assert sorted(job.kind for job in jobs.list("c")) == ["plan", "train"]
    with pytest.raises(Conflict):
        jobs.submit("c", JobKind.TRAIN, {})
    assert queue.claim("first") == Claim(plan.id, 1)


def test_beats_tell_the_living_from_the_gone(jobs: Jobs, queue: JobQueue) -> None:
    job = jobs.submit("c", "train", {})
    claim = queue.claim("first")
    assert claim is not None
    assert queue.beat("second") == {claim: 0}
    queue.beat("first")
    assert queue.beat("second") == {claim: 1}
    assert queue.beat("first") == {}  # its own are not among the others'

    queue.requeue(claim, crashed=True)
    assert jobs.get(job.id).state is JobState.QUEUED
    again = queue.claim("second")
    assert again == Claim(job.id, 2)
    queue.requeue(claim, crashed=True)  # said again of a start that is past
    assert jobs.get(job.id).state is JobState.RUNNING


def test_an_earlier_start_is_not_listened_to(jobs: Jobs, queue: JobQueue) -> None:
    job = jobs.submit("c", "train", {})
    first = queue.claim("first")
    assert first is not None
    assert queue.report(first, 0.5, "half")
    queue.requeue(first, crashed=True)
    second = queue.claim("second")
    assert second is not None
    assert not queue.report(first, 0.9, "more")
    queue.finish(first, JobState.FAILED, "too late")
    assert (jobs.get(job.id).state, jobs.get(job.id).progress) == (JobState.RUNNING, 0.5)
    queue.finish(second, JobState.SUCCEEDED, "done", {}, {"curve": b"png"})
    assert (jobs.get(job.id).state, jobs.picture(job.id, "curve")) == (JobState.SUCCEEDED, b"png")


def test_a_runner_that_comes_back_takes_its_own_jobs_up_at_once(jobs: Jobs, queue: JobQueue) -> None:
    mine, wanted = jobs.submit("c", "train", {}), queue.claim("first")
    queue.requeue_of("other", crashed=True)
    assert jobs.get(mine.id).state is JobState.RUNNING
    queue.requeue_of("first", crashed=True)
    assert jobs.get(mine.id).state is JobState.QUEUED
    assert wanted is not None
    queue.claim("first")
    jobs.cancel(mine.id)
    queue.requeue_of("first", crashed=True)
    assert jobs.get(mine.id).state is JobState.CANCELLED


def test_what_cuts_three_servers_off_is_failed_and_orderly_ends_do_not_count(jobs: Jobs, queue: JobQueue) -> None:
    job = jobs.submit("c", "train", {})
    for start in range(1, 6):
        assert queue.claim("first") == Claim(job.id, start)
        queue.requeue_of("first", crashed=False)
    for _ in range(3):
        claim = queue.claim("first")
        assert claim is not None
        queue.requeue(claim, crashed=True)
    assert queue.claim("first") is None
    assert (jobs.get(job.id).state, "memory" in jobs.get(job.id).message) == (JobState.FAILED, True)


def test_a_superseded_start_publishes_and_frees_nothing(database_url: str, tmp_path: Path) -> None:
    database, catalog = catalog_of(database_url)
    jobs, queue = Jobs(database), JobQueue(database)
    collection = catalog.create("c", dimension=8, originals=Originals.DROP)
    collection.ingest([item(str(v), VECTORS[v]) for v in range(300)])
    jobs.submit("c", "train", {})
    first = queue.claim("first")
    assert first is not None

    def lose_the_job(_: float, message: str) -> None:
        if message == "publishing":  # after its last report; another runner takes it for gone
            queue.requeue(first, crashed=True)
            assert queue.claim("second") is not None

    build = Build(database, collection.id, TINY_8, tmp_path / "a", lose_the_job, partial(fence, first))
    with pytest.raises(TrainingStopped):
        build.run(10_000)
    assert collection.follower.catch_up().generation_id is None
    with database.reading() as session:
        assert payload.count_rows(session, collection.id) == 300
    result = Build(database, collection.id, TINY_8, tmp_path / "b", lambda _, __: None).run(10_000)
    assert len(collection.follower.catch_up()) == 300
    assert collection.follower.catch_up().generation_id == result["generation"]
    database.close()


def test_a_locked_collection_holds_no_other_job_up(postgres: Postgres) -> None:
    database, catalog = catalog_of(postgres.new_database())
    for name in ("locked", "free"):
        catalog.create(name, dimension=8).ingest([item(str(v), VECTORS[v]) for v in range(120)])
    jobs = Jobs(database)
    with database.writing() as holder:
        store.find_collection(holder, "locked", lock=True)
        jobs.submit_due_trainings(100)
        assert [job.collection for job in jobs.list()] == ["free"]
    jobs.submit_due_trainings(100)
    assert sorted(job.collection for job in jobs.list()) == ["free", "locked"]
    database.close()


def test_a_folder_of_jobs_keeps_its_owner(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first = owner_of(tmp_path / "a")
    assert len(first) == 32
    assert owner_of(tmp_path / "a") == first
    assert owner_of(tmp_path / "b") != first
    (tmp_path / "b" / "owner").write_text("")  # cut off while it was written
    assert len(owner_of(tmp_path / "b")) == 32
