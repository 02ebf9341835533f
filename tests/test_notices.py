"""What is to be told: one notice an end of a job or a change of drift, handed out in order and to one at a time."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, select

from service.drift import Drift, Freshness, Look
from service.job import JobKind, JobState
from service.job_queue import MOST_CRASHES, Claim, JobQueue
from service.jobs import Jobs
from service.notices import Notices
from service.store import schema
from service.store.database import Database
from service.store.tables import CollectionRow, JobRow, NoticeRow

SHIFTS = {"error": 2.5, "nearest": -1.5}


class Outbox:
    """A collection of 1,000 items with generation 1 in a real database, and what is to be told of it."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        schema.upgrade(self.database)
        self.notices = Notices(self.database, wanted=True)
        self.jobs = Jobs(self.database, self.notices)
        self.queue = JobQueue(self.database, self.notices)
        row = CollectionRow(name="ünï", dimension=2, metric="l2", codec={}, row_count=1_000, seq=1_000, created_at=0.0)
        row.generation_id = 1
        with self.database.writing() as session:
            session.add(row)

    def bodies(self) -> list[Any]:
        """Of all that waits, in order."""
        with self.database.reading() as session:
            return [json.loads(body) for body in session.scalars(select(NoticeRow.body).order_by(NoticeRow.id))]

    def told(self, *names: str) -> list[Any]:
        return [tuple(body["data"][name] for name in names) for body in self.bodies()]

    def running(self, parameters: Any = None) -> Claim:
        """A training that has begun."""
        self.jobs.submit("ünï", JobKind.TRAIN, parameters or {})
        claim = self.queue.claim("runner")
        assert claim is not None
        return claim

    def change(self, row: type[Any], key: Any, **columns: Any) -> None:
        with self.database.writing() as session:
            for name, value in columns.items():
                setattr(session.get_one(row, key), name, value)

    def drifted(self, status: Freshness, generation: int = 1) -> bool:
        return self.notices.drifted(1, Look(generation, 1_000, Drift(status, 500, SHIFTS)))


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    made = Outbox(database_url)
    yield made
    made.database.close()


def test_the_end_of_a_job_is_told_with_what_came_of_it(outbox: Outbox) -> None:
    claim = outbox.running()
    reason = {"drift": "stale", "items": 500, "shifts": SHIFTS, "seq": 1_000}
    outbox.change(JobRow, claim.job_id, reason=reason)
    before = time.time()
    outbox.queue.finish(claim, JobState.SUCCEEDED, "published", {"generation": 2})
    (body,) = outbox.bodies()
    at = datetime.fromisoformat(body.pop("timestamp"))
    assert at.tzinfo == UTC
    assert before - 0.001 <= at.timestamp() <= time.time()
    data = {"job": claim.job_id, "kind": "train", "collection": "ünï", "state": "succeeded", "message": "published"}
    assert body == {"type": "job.finished", "data": data | {"generation": 2, "reason": reason}}
    outbox.queue.finish(claim, JobState.FAILED, "said by a start that is over")
    assert len(outbox.bodies()) == 1


def test_every_way_to_an_end_is_told_once(outbox: Outbox) -> None:
    refused = outbox.running()
    outbox.queue.finish(refused, JobState.FAILED, "below its contract", {"generation": 2})
    queued = outbox.jobs.submit_plan("ünï", {}).id
    with ThreadPoolExecutor(4) as pool:
        states = [job.state for job in pool.map(outbox.jobs.cancel, [queued] * 8)]
    assert states == [JobState.CANCELLED] * 8
    left = outbox.running()
    outbox.jobs.cancel(left.job_id)
    assert len(outbox.bodies()) == 2, "it is asked to stop, and has not"
    outbox.queue.requeue(left, crashed=True)
    outbox.queue.requeue(left, crashed=True)
    deadly = outbox.running()
    for _ in range(MOST_CRASHES - 1):
        outbox.queue.requeue(deadly, crashed=True)
        again = outbox.queue.claim("runner")
        assert again is not None
        deadly = again
    outbox.queue.requeue_of("runner", crashed=True)
    assert len(outbox.bodies()) == 3, "put back is no end"
    assert outbox.queue.claim("runner") is None
    assert outbox.told("job", "kind", "state", "message", "generation") == [
        (refused.job_id, "train", "failed", "below its contract", None),
        (queued, "plan", "cancelled", "", None),
        (left.job_id, "train", "cancelled", "", None),
        (
            deadly.job_id,
            "train",
            "failed",
            f"it was cut off {MOST_CRASHES} times, alone or with its server; was memory short?",
            None,
        ),
    ]


def test_drift_is_told_when_it_changes(outbox: Outbox) -> None:
    fresh, drifting, stale = Freshness.FRESH, Freshness.DRIFTING, Freshness.STALE
    seen = (fresh, drifting, drifting, stale, stale, fresh, fresh, stale)
    assert [outbox.drifted(status) for status in seen] == [False, True, False, True, False, True, False, True]
    assert not outbox.drifted(fresh, generation=2), "the look was at another codec"
    outbox.change(CollectionRow, 1, generation_id=2)
    assert not outbox.drifted(fresh)
    assert not outbox.drifted(fresh, generation=2), "a new codec is fresh until it is not"
    assert outbox.drifted(stale, generation=2)
    outbox.change(CollectionRow, 1, generation_id=1)
    assert outbox.drifted(stale), "of this generation something else was told last"
    pairs = [(1, "fresh", "drifting"), (1, "drifting", "stale"), (1, "stale", "fresh"), (1, "fresh", "stale")]
    assert outbox.told("generation", "before", "status") == [*pairs, (2, "fresh", "stale"), (1, "fresh", "stale")]
    body = outbox.bodies()[1]
    assert body["type"] == "collection.drifted"
    data = {"collection": "ünï", "generation": 1, "before": "drifting", "status": "stale"}
    assert body["data"] == data | {"items": 500, "shifts": SHIFTS}
    assert not outbox.notices.drifted(2, Look(1, 0, Drift(stale, 500, {}))), "there is no such collection"


def test_of_many_that_look_one_tells(outbox: Outbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: outbox.drifted(Freshness.STALE), range(16)))
    assert sorted(written) == [False] * 15 + [True]
    assert len(outbox.bodies()) == 1


def test_nothing_is_written_where_nobody_is_told(outbox: Outbox) -> None:
    outbox.notices.wanted = False
    outbox.queue.finish(outbox.running(), JobState.SUCCEEDED, "published", {"generation": 2})
    outbox.jobs.cancel(outbox.jobs.submit("ünï", JobKind.TRAIN, {}).id)
    JobQueue(outbox.database).finish(outbox.running(), JobState.FAILED, "")
    assert not outbox.drifted(Freshness.STALE)
    assert (outbox.bodies(), outbox.notices.waiting()) == ([], (0, None))
    outbox.notices.wanted = True
    assert outbox.drifted(Freshness.STALE), "it was not told yet"


def test_notices_are_handed_out_in_order_and_to_one_at_a_time(outbox: Outbox) -> None:
    outbox.drifted(Freshness.STALE)
    outbox.drifted(Freshness.FRESH)
    now = time.time() + 1
    assert outbox.notices.waiting().number == 2
    assert outbox.notices.claim(now - 2, 15) is None, "it is not there yet"
    with ThreadPoolExecutor(8) as pool:
        (first,) = (one for one in pool.map(lambda _: outbox.notices.claim(now, 15), range(16)) if one is not None)
    assert (first.attempt, json.loads(first.body)["data"]["status"]) == (1, "stale")
    assert outbox.notices.claim(now + 14.9, 15) is None, "those after it wait for it"
    second = outbox.notices.claim(now + 15, 15)
    assert second is not None, "its sender was killed"
    assert second == first._replace(attempt=2)
    outbox.notices.postpone(first, now + 99)
    assert outbox.notices.claim(now + 29.9, 15) is None
    third = outbox.notices.claim(now + 30, 15)
    assert third is not None, "what the first attempt says after the second has begun is not listened to"
    outbox.notices.postpone(third, now + 99)
    assert outbox.notices.claim(now + 98, 15) is None
    outbox.notices.remove(third)
    last = outbox.notices.claim(now, 15)
    assert last is not None
    assert (last.attempt, json.loads(last.body)["data"]["status"]) == (1, "fresh")
    assert last.message_id != first.message_id
    outbox.notices.remove(last)
    assert outbox.notices.claim(now + 99, 15) is None


def test_what_a_deleted_collection_has_to_tell_is_told(outbox: Outbox) -> None:
    outbox.queue.finish(outbox.running(), JobState.SUCCEEDED, "published", {"generation": 2})
    with outbox.database.writing() as session:
        session.execute(delete(CollectionRow))
    assert outbox.told("collection", "generation") == [("ünï", 2)]
