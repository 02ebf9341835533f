"""What an operator's endpoint is to be told, kept in the database until it was. Knows no HTTP.

A notice is written in the transaction of what it is about: there is none without the other.
"""

import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from service.drift import Freshness, Look
from service.store import store
from service.store.database import Database
from service.store.tables import CollectionRow, JobRow, NoticeRow

HEAD = select(NoticeRow).order_by(NoticeRow.id).limit(1)
"""The oldest. None is sent before it has been, so that they arrive in order."""


class Event(StrEnum):
    """What a notice is about."""

    JOB_FINISHED = "job.finished"
    COLLECTION_DRIFTED = "collection.drifted"


class Notice(NamedTuple):
    """One attempt to tell."""

    id: int
    message_id: str
    body: str
    created_at: float
    attempt: int
    """1 for the first."""


class Waiting(NamedTuple):
    """How many notices were not taken so far, and since when the oldest is there."""

    number: int
    since: float | None


class Notices:
    """The outbox. Where nobody is told (`wanted` is false) none is written; those that are there stay."""

    def __init__(self, database: Database, *, wanted: bool) -> None:
        self.wanted = wanted
        self._database = database

    def job_finished(self, session: Session, job: JobRow) -> None:
        """Writes that a job has come to its end, in whose transaction this is."""
        if not self.wanted:
            return
        published = (job.result or {}).get("generation") if job.state == "succeeded" else None
        data = {
            "job": job.id,
            "kind": job.kind,
            "collection": session.get_one(CollectionRow, job.collection_id).name,
            "state": job.state,
            "message": job.message,
            "generation": published,
            "reason": job.reason,
        }
        _write(session, Event.JOB_FINISHED, data)

    def drifted(self, collection_id: int, look: Look) -> bool:
        """Writes a collection's status of drift where it is another than was told last of this generation; whether.

        A generation is fresh until something else was told. Of many processes that look, one writes.
        """
        if not self.wanted:
            return False
        with self._database.reading() as session:  # mostly the answer is no, and needs no lock for it
            row = session.get(CollectionRow, collection_id)
            if row is None or not _is_news(row, look):
                return False
        with self._database.writing() as session:
            # It is skipped where it is locked for long; the next look comes soon.
            row = store.lock_collection(session, collection_id, skip_locked=True)
            if row is None or not _is_news(row, look):
                return False
            status = look.drift.status
            data = {
                "collection": row.name,
                "generation": look.generation_id,
                "before": _told(row, look),
                "status": status,
                "items": look.drift.items,
                "shifts": dict(look.drift.shifts),
            }
            row.told_drift = {"generation": look.generation_id, "status": status}
            _write(session, Event.COLLECTION_DRIFTED, data)
            return True

    # what the sender says

    def claim(self, now: float, seconds: float) -> Notice | None:
        """The oldest notice, where its time has come; nobody else gets it for so many seconds, or until `postpone`.

        Of processes and machines that ask together one gets it. Their clocks should agree.
        """
        with self._database.reading() as session:  # the usual look finds nothing, and needs no write lock for it
            if not _is_due(session, HEAD, now):
                return None
        with self._database.writing() as session:
            row = _is_due(session, HEAD.with_for_update(), now)
            if row is None:
                return None
            row.attempts, row.next_at = row.attempts + 1, now + seconds
            return Notice(row.id, row.message_id, row.body, row.created_at, row.attempts)

    def remove(self, notice: Notice) -> None:
        """It was taken, or is given up."""
        with self._database.writing() as session:
            session.execute(delete(NoticeRow).where(NoticeRow.id == notice.id))

    def postpone(self, notice: Notice, until: float) -> None:
        """Lets it, and all after it, wait; not where another attempt has begun meanwhile."""
        own = NoticeRow.id == notice.id, NoticeRow.attempts == notice.attempt
        with self._database.writing() as session:
            session.execute(update(NoticeRow).where(*own).values(next_at=until))

    def waiting(self) -> Waiting:
        """What there is to be told."""
        with self._database.reading() as session:
            number, since = session.execute(select(func.count(), func.min(NoticeRow.created_at))).one()
        return Waiting(number, since)


def _told(row: CollectionRow, look: Look) -> str:
    """The status of the look's generation as the endpoint knows it."""
    told = row.told_drift
    return told["status"] if told is not None and told["generation"] == look.generation_id else Freshness.FRESH


def _is_news(row: CollectionRow, look: Look) -> bool:
    return row.generation_id == look.generation_id and look.drift.status != _told(row, look)


def _is_due(session: Session, head: Select[NoticeRow], now: float) -> NoticeRow | None:
    row = session.scalars(head).first()
    return row if row is not None and row.next_at <= now else None


def _write(session: Session, event: Event, data: Mapping[str, Any]) -> None:
    now = time.time()
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    body = json.dumps({"type": event, "timestamp": at, "data": data}, separators=(",", ":"))
    session.add(NoticeRow(message_id=f"msg_{uuid.uuid4().hex}", body=body, created_at=now, attempts=0, next_at=now))
