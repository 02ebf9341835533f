"""A question to a collection, and what is answered. Knows no view and no HTTP."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import OriginalsDropped
from service.filter import Filter
from service.index.segment import IndexKind
from service.search import Plan, Stage
from service.store.store import Item


@dataclass(frozen=True)
class Query:
    """One question: exactly one of `text`, `vector` ((D,) float32) and `id` is given."""

    text: str | None
    vector: NDArray[np.float32] | None
    id: str | None
    plan: Plan
    field: str
    """Where it stands in the request, for errors."""
    filter: Filter | None = None
    """What the metadata of its hits must be like."""


@dataclass(frozen=True)
class Hit:
    """One found item."""

    item: Item
    score: float
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first."""

    hits: list[Hit]
    generation: int | None
    partial_reason: str | None
    """Why there are fewer hits than there could be; none where there are not."""
    warning: str | None = None
    """What the encoder left out of a text that is longer than it reads."""


def by_codes(plan: Plan, field: str) -> Plan:
    """The plan where only codes are left.

    Raises:
        OriginalsDropped: it asks for originals.
    """
    if plan.kind is IndexKind.EXACT or plan.stage is Stage.RESCORE:
        asked = "index" if plan.kind is IndexKind.EXACT else "stage"
        raise OriginalsDropped(
            "this collection's vectors were dropped, only codes are left: leave it out, or ask for the stage refine",
            field=f"{field}{asked}",
        )
    return Plan(plan.k, plan.oversample, plan.kind, plan.stage or Stage.REFINE)


def why_fewer(plan: Plan, missing: int) -> str | None:
    """What is told where an answer has `missing` hits too few; none where it has all."""
    if missing <= 0:
        return None
    if plan.kind is IndexKind.BUCKETS:
        return f"the nearest buckets held {missing} items too few, or some were deleted meanwhile; try the index faiss"
    return f"{missing} items were deleted or replaced during the search"
