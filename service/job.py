"""What a job is. Knows no queue and no process."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.store.tables import JobRow


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

    @classmethod
    def of(cls, row: JobRow, collection: str) -> "Job":
        """As its row has it."""
        return cls(
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
