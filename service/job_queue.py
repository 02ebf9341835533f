"""Jobs as those that run them see them: taken, reported on, put back, ended. Knows no process and no training."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import Session

from models import TrainingStopped
from service.job import ACTIVE, JobState
from service.notices import Notices
from service.store.database import Database
from service.store.tables import JobRow, PictureRow

MOST_CRASHES = 3


class Claim(NamedTuple):
    """One start of a job: what an earlier start still says is not listened to."""

    job_id: str
    starts: int


class JobQueue:
    """Queued and running jobs in the database. How a job ended is a notice as well, where somebody is told."""

    def __init__(self, database: Database, notices: Notices | None = None) -> None:
        self._database = database
        self._notices = notices

    def claim(self, owner: str) -> Claim | None:
        """Takes the oldest queued job and marks it running under `owner`; none where there is none.

        A job that has been cut off three times is failed: it may be what memory is short by.
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
                job.message = f"it was cut off {job.crashes} times, alone or with its server; was memory short?"
                end(session, job, JobState.FAILED, self._notices)
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
                    end(session, job, JobState.CANCELLED, self._notices)
                else:
                    job.state, job.message = JobState.QUEUED, "taken up again after it was cut off"
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
            end(session, job, state, self._notices)


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


def end(session: Session, job: JobRow, state: JobState, notices: Notices | None) -> None:
    """The one way to the end of a job, which is told in the same transaction."""
    job.state, job.finished_at = state, time.time()
    if notices is not None:
        notices.job_finished(session, job)
