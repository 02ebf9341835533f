"""Jobs as users see them: asked for, listed, cancelled. Knows no process and no training."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import admission
from service.drift import Look
from service.errors import JobNotFound, OriginalsDropped, PictureNotFound, TooFewItems
from service.job import PUBLISHING, Job, JobKind, JobState
from service.job_queue import end
from service.notices import Notices
from service.originals import Originals
from service.store import store
from service.store.database import Database
from service.store.tables import CollectionRow, JobRow, PictureRow


class Jobs:
    """All jobs in the database. That one is cancelled is a notice as well, where somebody is told."""

    def __init__(self, database: Database, notices: Notices | None = None) -> None:
        self._database = database
        self._notices = notices

    def submit(self, collection: str, kind: str, parameters: Mapping[str, Any]) -> Job:
        """Queues a job.

        Raises:
            CollectionNotFound; TooFewItems; OriginalsDropped; Conflict: one is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.found_collection(session, collection, lock=True)
            if row.row_count < admission.FEWEST_ITEMS:
                raise TooFewItems(
                    f"the collection has {row.row_count} items; training needs {admission.FEWEST_ITEMS}, and exact "
                    "search serves fewer",
                    field="collection",
                )
            if row.originals == Originals.DROP and row.generation_id is not None:
                raise OriginalsDropped(
                    "the vectors were dropped when this codec was published, and without them there is no other; "
                    "ingest them into a new collection and point an alias at it",
                    field="collection",
                )
            admission.check_idle(session, row, PUBLISHING)
            return Job.of(admission.queued(session, row, kind, parameters), row.name)

    def submit_plan(self, collection: str, parameters: Mapping[str, Any]) -> Job:
        """Queues a plan.

        Raises:
            CollectionNotFound; TooFewItems; Conflict: one is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.found_collection(session, collection, lock=True)
            if row.row_count < admission.FEWEST_PLANNED:
                raise TooFewItems(admission.few(row.row_count), field="collection")
            admission.check_idle(session, row, (JobKind.PLAN,))
            return Job.of(admission.queued(session, row, JobKind.PLAN, parameters), row.name)

    def submit_rollback(self, collection: str, generation_id: int | None) -> Job:
        """Queues the way back to a kept generation; without an id, to the one that was published last before this one.

        Raises:
            CollectionNotFound; GenerationNotFound; NotKept; Conflict: a job is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.found_collection(session, collection, lock=True)
            wanted = admission.kept_generation(session, row, generation_id)
            admission.check_idle(session, row, PUBLISHING)
            parameters = {"generation": wanted, "before": row.generation_id}
            return Job.of(admission.queued(session, row, JobKind.ROLLBACK, parameters), row.name)

    def submit_cut(self, collection: str, size: int) -> Job:
        """Queues a cut of the published codes to their first `size` bytes.

        Raises:
            CollectionNotFound; NotTrained; NoPrefixes; OriginalsDropped; TooFewItems
            InvalidInput: codes are not longer than that.
            Conflict: the codec is chosen by plans, or a job is queued or running for the collection.
        """
        with self._database.writing() as session:
            row = store.found_collection(session, collection, lock=True)
            admission.check_can_be_cut(session, row, size)
            admission.check_idle(session, row, PUBLISHING)
            parameters = {"generation": row.generation_id, "bytes": size}
            return Job.of(admission.queued(session, row, JobKind.CUT, parameters), row.name)

    def submit_due_trainings(self, train_at: int) -> None:
        """Queues the first training of every collection that has grown to `train_at` items and never had one."""
        untrained = select(CollectionRow).where(
            CollectionRow.generation_id.is_(None),
            CollectionRow.row_count >= max(train_at, admission.FEWEST_ITEMS),
            ~admission.had_training(CollectionRow.id),
        )
        with self._database.reading() as session:
            due = [row.id for row in session.scalars(untrained)]
        for collection_id in due:
            with self._database.writing() as session:
                # A collection that is locked for long must not hold up all jobs: it comes in a later round.
                row = store.lock_collection(session, collection_id, skip_locked=True)
                if row is not None and not session.scalar(select(admission.had_training(row.id))):
                    admission.queued(session, row, JobKind.TRAIN, {})

    def submit_retraining(self, collection_id: int, look: Look, now: float) -> str | None:
        """Queues the training that the collection's policy asks for after a look at its drift; the job's id, or none
        where it asks for none now.

        It is asked for as that of the published codec was. None begins while another job is under way, sooner than the
        policy allows, or where hardly an item is new since it last began one: that would end as the last one did.
        """
        with self._database.reading() as session:  # mostly the answer is no, and needs no lock for it
            row = session.get(CollectionRow, collection_id)
            if row is None or not admission.is_retraining_due(session, row, look, now):
                return None
        with self._database.writing() as session:
            # Under the collection's lock one of many processes begins; it is skipped where it is locked for long.
            row = store.lock_collection(session, collection_id, skip_locked=True)
            if row is None or not admission.is_retraining_due(session, row, look, now):
                return None
            job = admission.queued(session, row, JobKind.TRAIN, admission.asked_for(session, row))
            seen = look.drift
            job.reason = {"drift": seen.status, "items": seen.items, "shifts": dict(seen.shifts), "seq": row.seq}
            return job.id

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            JobNotFound
        """
        with self._database.reading() as session:
            return Job.of(*_found(session, job_id))

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
            return [Job.of(row, name) for row, name in rows]

    def cancel(self, job_id: str) -> Job:
        """Asks a job to stop: a queued one at once, a running one at its next step; an ended one stays as it is.

        Raises:
            JobNotFound
        """
        with self._database.writing() as session:
            job, name = _found(session, job_id, lock=True)
            if job.state == JobState.QUEUED:
                end(session, job, JobState.CANCELLED, self._notices)
            elif job.state == JobState.RUNNING:
                job.cancel_requested = True
            return Job.of(job, name)


def _found(session: Session, job_id: str, *, lock: bool = False) -> tuple[JobRow, str]:
    job = session.get(JobRow, job_id, with_for_update=lock or None)
    if job is None:
        raise JobNotFound(job_id)
    return job, session.get_one(CollectionRow, job.collection_id).name
