"""What an ingest answers. Knows no SQL and no HTTP."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from service.errors import BatchRejected, CodewellError


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

    def count(self, status: ItemStatus) -> int:
        """Items with that outcome."""
        return sum(result.status is status for result in self.results)

    def checked(self) -> "Receipt":
        """Itself, where something was kept.

        Raises:
            BatchRejected: every item was rejected.
        """
        if all(result.status is ItemStatus.REJECTED for result in self.results):
            raise batch_rejected("no item could be kept", self.results)
        return self


def batch_rejected(reason: str, results: Iterable[ItemResult]) -> BatchRejected:
    """The error that lists every rejected item of `results`."""
    rejected = [(result, result.error) for result in results if result.error is not None]
    errors: list[dict[str, object]] = [
        {"position": result.position, "id": result.id, "field": error.field, "detail": error.detail}
        for result, error in rejected
    ]
    return BatchRejected(f"{reason}, and {len(errors)} were rejected; the first: {errors[0]['detail']}", errors)
