"""What an ingest answers. Knows no SQL and no HTTP."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from service.errors import BatchConflict, BatchRejected, CodewellError, Conflict


class ItemStatus(StrEnum):
    """What became of an item."""

    INSERTED = "inserted"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


@dataclass(frozen=True)
class ItemResult:
    """One item's outcome, in the order of the request."""

    position: int
    id: str | None
    status: ItemStatus
    error: CodewellError | None = None
    warning: str | None = None
    """What was left out of a text that was longer than its encoder reads."""


@dataclass(frozen=True)
class Receipt:
    """Everything it names is committed."""

    collection: str
    seq: int
    """The collection's last change when the batch was committed."""
    results: list[ItemResult] = field(default_factory=list)

    def to_json(self) -> str:
        """As it is kept for a request that is sent again."""
        return json.dumps(
            [self.collection, self.seq]
            + [
                [result.position, result.id, result.status, result.warning, result.error and _said(result.error)]
                for result in self.results
            ]
        )

    @classmethod
    def from_json(cls, kept: str) -> "Receipt":
        """What `to_json` made."""
        collection, seq, *results = json.loads(kept)
        return cls(
            collection,
            seq,
            [
                ItemResult(position, item_id, ItemStatus(status), error and _error(*error), warning)
                for position, item_id, status, warning, error in results
            ],
        )

    def count(self, status: ItemStatus) -> int:
        """Items with that outcome."""
        return sum(result.status is status for result in self.results)

    def checked(self) -> "Receipt":
        """Itself, where something was kept.

        Raises:
            BatchRejected, BatchConflict: every item was rejected.
        """
        if all(result.status is ItemStatus.REJECTED for result in self.results):
            raise batch_rejected("no item could be kept", self.results)
        return self


def batch_rejected(reason: str, results: Iterable[ItemResult]) -> BatchRejected | BatchConflict:
    """The error that lists every rejected item of `results`."""
    rejected = [(result, result.error) for result in results if result.error is not None]
    errors: list[dict[str, object]] = [
        {"position": result.position, "id": result.id, "field": error.field, "detail": error.detail}
        for result, error in rejected
    ]
    detail = f"{reason}, and {len(errors)} were rejected; the first: {errors[0]['detail']}"
    conflict = all(isinstance(error, Conflict) for _, error in rejected)
    return BatchConflict(detail, errors) if conflict else BatchRejected(detail, errors)


def _said(error: CodewellError) -> list[str | None]:
    return [error.title, error.detail, error.field]


def _error(title: str, detail: str, field: str | None) -> CodewellError:
    error = CodewellError(detail, field=field)
    error.title = title
    return error
