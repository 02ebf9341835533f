"""Jobs as rows: asked for, listed, cancelled, reported on. Knows no process and no training."""

import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import Session

from models import PREFIXED, TrainingStopped, cut_config
from service.compare.vectors import FEWEST
from service.drift import FEWEST_NEW, Look
from service.errors import (
    CollectionNotFound,
    Conflict,
    GenerationNotFound,
    InvalidInput,
    JobNotFound,
    NoPrefixes,
    NotKept,
    NotTrained,
    OriginalsDropped,
    PictureNotFound,
    TooFewItems,
)
from service.notices import Notices
from service.originals import Originals
from service.retrain import RetrainSpec
from service.store import store
from service.store.database import Database
from service.store.tables import CollectionRow, GenerationRow, JobRow, PictureRow
from service.swap import GenerationState


class JobState(StrEnum):
    """The life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What a job does."""

    TRAIN = "train"
    ROLLBACK = "rollback"
    CUT = "cut"
    PLAN = "plan"
    """Changes nothing: it may go on beside the others, and does not count as a training."""


FEWEST_ITEMS = 100
"""Below this, exact search costs nothing and a codec learns nothing."""
FEWEST_PLANNED = FEWEST
"""Vectors of which some can be asked for and others searched."""
MOST_CRASHES = 3
ACTIVE = (JobState.QUEUED, JobState.RUNNING)
PUBLISHING = (JobKind.TRAIN, JobKind.ROLLBACK, JobKind.CUT)
"""Kinds that end with another generation."""


@dataclass(frozen=True)
class Job:
    """One job as a user sees it."""

    id: str
    collection: str
    kind: str
    state: JobState
    progress: float
    """0..1"""
    message: str
    parameters: Mapping[str, Any]
    reason: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    created_at: float
    started_at: float | None
    finished_at: float | None


class Claim(NamedTuple):
    """One start of a job: what an earlier start still says is not listened to."""

    job_id: str
    starts: int


class Jobs:
    """The queue in the database. How a job ended is a notice as well, where somebody is told."""

    def __init__(self, database: Database, notices: Notices | None = None) -> None:
        self._database = database
        self._notices = notices

    def submit(self, collection: str, kind: str, parameters: Mapping[str, Any]) -> Job:
        """Queues a job.

        Raises:
            CollectionNotFound; TooFewItems; OriginalsDropped; Conflict: one is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.find_collection(session, collection, lock=True)
            if row is None:
                raise CollectionNotFound(collection, field="collection")
            if row.row_count < FEWEST_ITEMS:
                raise TooFewItems(
                    f"the collection has {row.row_count} items; training needs {FEWEST_ITEMS}, and exact search "
                    "serves fewer",
                    field="collection",
                )
            if row.originals == Originals.DROP and row.generation_id is not None:
                raise OriginalsDropped(
                    "the vectors were dropped when this codec was published, and without them there is no other; "
                    "ingest them into a new collection and point an alias at it",
                    field="collection",
                )
            _check_idle(session, row, PUBLISHING)
            return _job(_queued(session, row, kind, parameters), row.name)

    def submit_plan(self, collection: str, parameters: Mapping[str, Any]) -> Job:
        """Queues a plan.

        Raises:
            CollectionNotFound; TooFewItems; Conflict: one is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.find_collection(session, collection, lock=True)
            if row is None:
                raise CollectionNotFound(collection, field="collection")
            if row.row_count < FEWEST_PLANNED:
                raise TooFewItems(few(row.row_count), field="collection")
            _check_idle(session, row, (JobKind.PLAN,))
            return _job(_queued(session, row, JobKind.PLAN, parameters), row.name)

    def submit_rollback(self, collection: str, generation_id: int | None) -> Job:
        """Queues the way back to a kept generation; without an id, to the one that was published last before this one.

        Raises:
            CollectionNotFound; GenerationNotFound; NotKept; Conflict: a job is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.find_collection(session, collection, lock=True)
            if row is None:
                raise CollectionNotFound(collection, field="collection")
            wanted = _kept(session, row, generation_id)
            _check_idle(session, row, PUBLISHING)
            parameters = {"generation": wanted, "before": row.generation_id}
            return _job(_queued(session, row, JobKind.ROLLBACK, parameters), row.name)

    def submit_cut(self, collection: str, size: int) -> Job:
        """Queues a cut of the published codes to their first `size` bytes.

        Raises:
            CollectionNotFound; NotTrained; NoPrefixes; OriginalsDropped; TooFewItems
            InvalidInput: codes are not longer than that.
            Conflict: the codec is chosen by plans, or a job is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.find_collection(session, collection, lock=True)
            if row is None:
                raise CollectionNotFound(collection, field="collection")
            _check_can_be_cut(session, row, size)
            _check_idle(session, row, PUBLISHING)
            parameters = {"generation": row.generation_id, "bytes": size}
            return _job(_queued(session, row, JobKind.CUT, parameters), row.name)

    def submit_due_trainings(self, train_at: int) -> None:
        """Queues the first training of every collection that has grown to `train_at` items and never had one."""
        untrained = select(CollectionRow).where(
            CollectionRow.generation_id.is_(None),
            CollectionRow.row_count >= max(train_at, FEWEST_ITEMS),
            ~_had_training(CollectionRow.id),
        )
        with self._database.reading() as session:
            due = [row.id for row in session.scalars(untrained)]
        for collection_id in due:
            with self._database.writing() as session:
                # A collection that is locked for long must not hold up all jobs: it comes in a later round.
                row = store.lock_collection(session, collection_id, skip_locked=True)
                if row is not None and not session.scalar(select(_had_training(row.id))):
                    _queued(session, row, JobKind.TRAIN, {})

    def submit_retraining(self, collection_id: int, look: Look, now: float) -> str | None:
        """Queues the training that the collection's policy asks for after a look at its drift; the job's id, or none
        where it asks for none now.

        It is asked for as that of the published codec was. None begins while another job is under way, sooner than the
        policy allows, or where hardly an item is new since it last began one: that would end as the last one did.
        """
        with self._database.reading() as session:  # mostly the answer is no, and needs no lock for it
            row = session.get(CollectionRow, collection_id)
            if row is None or not _is_retraining_due(session, row, look, now):
                return None
        with self._database.writing() as session:
            # Under the collection's lock one of many processes begins; it is skipped where it is locked for long.
            row = store.lock_collection(session, collection_id, skip_locked=True)
            if row is None or not _is_retraining_due(session, row, look, now):
                return None
            job = _queued(session, row, JobKind.TRAIN, _asked_for(session, row))
            seen = look.drift
            job.reason = {"drift": seen.status, "items": seen.items, "shifts": dict(seen.shifts), "seq": row.seq}
            return job.id

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            JobNotFound
        """
        with self._database.reading() as session:
            return _job(*_found(session, job_id))

    def picture(self, job_id: str, name: str) -> bytes:
        """The PNG of one of a job's pictures.

        Raises:
            JobNotFound, PictureNotFound
        """
        with self._database.reading() as session:
            job, _ = _found(session, job_id)
            row = session.get(PictureRow, (job_id, name))
            if row is None:
                there = ", ".join((job.result or {}).get("pictures", [])) or "none"
                raise PictureNotFound(f"job {job_id} has no picture {name!r}; it has: {there}", field="name")
            return row.png

    def list(self, collection: str | None = None, limit: int = 100, within: Collection[str] | None = None) -> list[Job]:
        """The newest jobs first, of one collection or of all; `within` names collections and leaves all others out."""
        statement = select(JobRow, CollectionRow.name).join(CollectionRow, CollectionRow.id == JobRow.collection_id)
        with self._database.reading() as session:
            if collection is not None:
                row = store.found_collection(session, collection)
                statement = statement.where(JobRow.collection_id == row.id)
            if within is not None:
                statement = statement.where(CollectionRow.name.in_(within))
            rows = session.execute(statement.order_by(JobRow.created_at.desc(), JobRow.id).limit(limit))
            return [_job(row, name) for row, name in rows]

    def cancel(self, job_id: str) -> Job:
        """Asks a job to stop: a queued one at once, a running one at its next step; an ended one stays as it is.

        Raises:
            JobNotFound
        """
        with self._database.writing() as session:
            job, name = _found(session, job_id, lock=True)
            if job.state == JobState.QUEUED:
                self._end(session, job, JobState.CANCELLED)
            elif job.state == JobState.RUNNING:
                job.cancel_requested = True
            return _job(job, name)

    # what the runner and the job's own process say

    def claim(self, owner: str) -> Claim | None:
        """Takes the oldest queued job and marks it running under `owner`; none where there is none.

        A job that has been cut off three times is failed: it may be what kills the server.
        """
        oldest = select(JobRow).where(JobRow.state == JobState.QUEUED).order_by(JobRow.created_at).limit(1)
        with self._database.reading() as session:  # the usual look finds nothing, and needs no write lock for it
            if session.scalars(oldest).first() is None:
                return None
        with self._database.writing() as session:
            job = session.scalars(oldest.with_for_update(skip_locked=True)).first()
            if job is None:
                return None
            if job.crashes >= MOST_CRASHES:
                job.message = f"the server was cut off {job.crashes} times while this job ran; was memory short?"
                self._end(session, job, JobState.FAILED)
                return None
            job.state, job.started_at, job.starts, job.owner = JobState.RUNNING, time.time(), job.starts + 1, owner
            return Claim(job.id, job.starts)

    def beat(self, owner: str) -> dict[Claim, int]:
        """Counts the beats of the owner's running jobs on; returns those of all others' as they stand."""
        running = select(JobRow.id, JobRow.starts, JobRow.beat, JobRow.owner).where(JobRow.state == JobState.RUNNING)
        with self._database.reading() as session:
            rows = session.execute(running).all()
        if any(job_owner == owner for *_, job_owner in rows):  # an idle server writes nothing
            with self._database.writing() as session:
                own = update(JobRow).where(JobRow.state == JobState.RUNNING, JobRow.owner == owner)
                session.execute(own.values(beat=JobRow.beat + 1))
        return {Claim(job_id, starts): beat for job_id, starts, beat, job_owner in rows if job_owner != owner}

    def requeue(self, claim: Claim, *, crashed: bool) -> None:
        """Puts a job back whose process or runner has ended, unless somebody did so already."""
        self._requeue((JobRow.id == claim.job_id) & (JobRow.starts == claim.starts), crashed)

    def requeue_of(self, owner: str, *, crashed: bool) -> None:
        """Puts back what the owner left running; a training goes on from its checkpoint."""
        self._requeue((JobRow.owner == owner) | JobRow.owner.is_(None), crashed)

    def _requeue(self, which: ColumnElement[bool], crashed: bool) -> None:
        running = select(JobRow).where(JobRow.state == JobState.RUNNING, which).with_for_update()
        with self._database.writing() as session:
            for job in session.scalars(running).all():
                if job.cancel_requested:
                    self._end(session, job, JobState.CANCELLED)
                else:
                    job.state, job.message = JobState.QUEUED, "taken up again after a restart"
                    job.crashes += int(crashed)

    def is_active(self, job_id: str) -> bool:
        """Whether a job is queued or running."""
        with self._database.reading() as session:
            return bool(session.scalar(select(exists().where(JobRow.id == job_id, JobRow.state.in_(ACTIVE)))))

    def report(self, claim: Claim, progress: float, message: str) -> bool:
        """Stores how far a job is; false when it is to stop: that was asked, its collection is gone, or another runner
        has started it again.
        """
        with self._database.writing() as session:
            job = _claimed(session, claim)
            if job is None or job.cancel_requested:
                return False
            job.progress, job.message = progress, message
            return True

    def finish(
        self,
        claim: Claim,
        state: JobState,
        message: str,
        result: Mapping[str, Any] | None = None,
        pictures: Mapping[str, bytes] | None = None,
    ) -> None:
        """Ends a running job and keeps its pictures, PNGs by name; one that is no more the claim's stays as it is."""
        with self._database.writing() as session:
            job = _claimed(session, claim)
            if job is None:
                return
            job.message, job.result = message, dict(result) if result is not None else None
            session.add_all(PictureRow(job_id=job.id, name=name, png=png) for name, png in (pictures or {}).items())
            if state is JobState.SUCCEEDED:
                job.progress = 1.0
            self._end(session, job, state)

    def _end(self, session: Session, job: JobRow, state: JobState) -> None:
        """The one way to the end of a job, which is told in the same transaction."""
        job.state, job.finished_at = state, time.time()
        if self._notices is not None:
            self._notices.job_finished(session, job)


def few(items: int) -> str:
    """What is said of too few items for a plan."""
    return f"the collection has {items} items; a plan needs {FEWEST_PLANNED}, and exact search serves fewer"


def _had_training(collection_id: Any) -> ColumnElement[bool]:
    """Whether the collection has or had a job that publishes."""
    return exists().where(JobRow.collection_id == collection_id, JobRow.kind.in_(PUBLISHING))


def _is_retraining_due(session: Session, row: CollectionRow, look: Look, now: float) -> bool:
    policy = None if row.retrain is None else RetrainSpec.model_validate(row.retrain)
    if policy is None or row.generation_id != look.generation_id or row.row_count < FEWEST_ITEMS:
        return False
    if not policy.is_met(look.drift) or _active(session, row, PUBLISHING) is not None:
        return False
    begun = select(JobRow).where(JobRow.collection_id == row.id, JobRow.reason.is_not(None))
    last = session.scalars(begun.order_by(JobRow.created_at.desc()).limit(1)).first()
    if last is None or last.reason is None:
        return True
    hours = (now - last.created_at) / 3_600
    return hours >= policy.at_most_every_hours and row.seq - last.reason["seq"] >= FEWEST_NEW


def _asked_for(session: Session, row: CollectionRow) -> Mapping[str, Any]:
    """The request of the training that made the published codec; nothing, which is the collection's own codec and
    contract, where another kind of job made it.
    """
    trainings = select(JobRow.parameters, JobRow.result).where(
        JobRow.collection_id == row.id, JobRow.kind == JobKind.TRAIN, JobRow.state == JobState.SUCCEEDED
    )
    for parameters, result in session.execute(trainings.order_by(JobRow.created_at.desc())):
        if (result or {}).get("generation") == row.generation_id:
            return dict(parameters)
    return {}


def _check_can_be_cut(session: Session, row: CollectionRow, size: int) -> None:
    if row.generation_id is None:
        raise NotTrained(row.name, field="codec")
    certificate = session.get_one(GenerationRow, row.generation_id).certificate
    kind, present = certificate["codec"]["kind"], certificate["code_bytes"]
    config = {name: value for name, value in certificate["codec"].items() if name != "kind"}
    if row.codec.get("kind") == "auto":
        raise Conflict(
            "the collection's codec is auto: a plan chooses it, and a cut would end that; train with a contract whose "
            f'"max_bytes" is {size}, which the plan then keeps to',
            field="codec.kind",
        )
    if cut_config(kind, config, 1) is None:
        raise NoPrefixes(
            f"the first bytes of the published codes, which are of the kind {kind}, are no codes; those of {PREFIXED} "
            "are: train one of these first",
            field="codec.kind",
        )
    if size >= present:
        wanted = f"1 to {present - 1}" if present > 1 else "none: they cannot be cut further"
        raise InvalidInput(
            f"the published codes have {present} bytes, which can be cut to {wanted}; for longer ones train again",
            field="codec.bytes",
        )
    if row.originals == Originals.DROP:
        raise OriginalsDropped(
            "without the vectors nobody can measure what the cut codes keep; ingest them into a new collection and "
            "train it with as many bytes as wanted",
            field="collection",
        )
    if row.row_count < FEWEST_ITEMS:
        raise TooFewItems(
            f"the collection has {row.row_count} items; a cut needs {FEWEST_ITEMS} to be measured, and saves nothing "
            "with fewer",
            field="collection",
        )


def _check_idle(session: Session, row: CollectionRow, kinds: Collection[JobKind]) -> None:
    """Two jobs at once would publish over each other; two plans would ask the same."""
    if (running := _active(session, row, kinds)) is not None:
        raise Conflict(f"job {running} is under way; wait for it, or cancel it by DELETE /jobs/{running}")


def _active(session: Session, row: CollectionRow, kinds: Collection[JobKind]) -> str | None:
    """The job of one of these kinds that is queued or running."""
    own = select(JobRow.id).where(JobRow.collection_id == row.id, JobRow.state.in_(ACTIVE), JobRow.kind.in_(kinds))
    return session.scalars(own).first()


def _kept(session: Session, row: CollectionRow, generation_id: int | None) -> int:
    """The generation to go back to."""
    own = select(GenerationRow).where(GenerationRow.collection_id == row.id)
    if generation_id is None:
        kept = own.where(GenerationRow.state == GenerationState.KEPT)
        newest = session.scalars(kept.order_by(GenerationRow.published_at.desc())).first()
        if newest is None:
            raise NotKept(
                "no generation was published before this one, or its codes were freed: CODEWELL_KEEP_GENERATIONS says "
                "how many are kept",
                field="generation",
            )
        return newest.id
    generation = session.scalars(own.where(GenerationRow.id == generation_id)).first()
    if generation is None:
        raise GenerationNotFound(
            f"there is no generation {generation_id}; GET /collections/{row.name}/generations lists them",
            field="generation",
        )
    if generation.state != GenerationState.KEPT:
        raise NotKept(
            f"generation {generation_id} is {generation.state}; the way back leads to one that is kept",
            field="generation",
        )
    return generation.id


def _queued(session: Session, row: CollectionRow, kind: str, parameters: Mapping[str, Any]) -> JobRow:
    job = JobRow(
        id=uuid.uuid4().hex,
        collection_id=row.id,
        kind=kind,
        parameters=dict(parameters),
        state=JobState.QUEUED,
        cancel_requested=False,
        starts=0,
        progress=0.0,
        message="",
        created_at=time.time(),
    )
    session.add(job)
    return job


def fence(claim: Claim, session: Session) -> None:
    """Holds the job until the transaction ends.

    Raises:
        TrainingStopped: it is no more this start's.
    """
    if _claimed(session, claim) is None:
        raise TrainingStopped


def _claimed(session: Session, claim: Claim) -> JobRow | None:
    """The job, where it still runs as that start of it."""
    job = session.get(JobRow, claim.job_id, with_for_update=True)
    return job if job is not None and job.state == JobState.RUNNING and job.starts == claim.starts else None


def _found(session: Session, job_id: str, *, lock: bool = False) -> tuple[JobRow, str]:
    job = session.get(JobRow, job_id, with_for_update=lock or None)
    if job is None:
        raise JobNotFound(job_id)
    return job, session.get_one(CollectionRow, job.collection_id).name


def _job(row: JobRow, collection: str) -> Job:
    return Job(
        id=row.id,
        collection=collection,
        kind=row.kind,
        state=JobState(row.state),
        progress=row.progress,
        message=row.message,
        parameters=row.parameters,
        reason=row.reason,
        result=row.result,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
