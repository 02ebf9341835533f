"""A question to a collection, and what is answered. Knows no view and no HTTP."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Metric, Vectors, prepared
from service.errors import InvalidInput, OriginalsDropped
from service.filter import Filter
from service.fusion import Fusion, ReciprocalRank
from service.index.segment import IndexKind
from service.latents import Explanation
from service.profile import Profile
from service.search import Plan, Probed, Stage
from service.span import Span
from service.store.store import Item

FAINTEST = 1e-4
"""What must be left of examples of length 1 for a direction."""


RRF = ReciprocalRank()


class Mode(StrEnum):
    """What hits are ranked by."""

    VECTOR = "vector"
    """The nearest vectors."""
    TEXT = "text"
    """The words of a text, by BM25."""
    HYBRID = "hybrid"
    """Both, fused."""


@dataclass(frozen=True)
class Example:
    """What hits shall be like, or shall not: exactly one of `text`, `vector` ((D,) float32) and `id` is given."""

    text: str | None = None
    vector: NDArray[np.float32] | None = None
    id: str | None = None
    field: str = ""
    """Where it stands in the request, for errors; ends in a dot, or is empty."""


@dataclass(frozen=True)
class Query:
    """One question: the nearest to the mean of `positive`, away from that of `negative`; or what has its words."""

    positive: tuple[Example, ...]
    """One at least, but none in the mode text."""
    plan: Plan
    field: str = ""
    mode: Mode = Mode.VECTOR
    text: str | None = None
    """Its words; of the modes text and hybrid, and of snippets."""
    fusion: Fusion = RRF
    snippet: bool = False
    """Whether hits are told with the part of their text that has the words."""
    negative: tuple[Example, ...] = ()
    filter: Filter | None = None
    """What the metadata of its hits must be like."""
    min_score: float | None = None
    diversity: float = 0.0
    """From 0, relevance alone, to 1: what a hit's likeness to better hits takes from it."""
    group_by: str | None = None
    """A path of metadata: hits of k of its values are wanted,"""
    group_size: int = 1
    """of each value so many."""
    seen: frozenset[int] = frozenset()
    """Rows of the pages before."""
    boost: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Latents of a sparse codec whose directions are added, by a share of the query's length;"""
    suppress: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """those that are taken away."""
    explain: bool = False
    tuned: bool = False
    """Whether the generation's own oversample is taken, instead of the plan's."""

    @property
    def pool(self) -> Plan:
        """How the hits are found among which this query's are chosen."""
        k, plan = self.plan.k + len(self.seen), self.plan
        if not self.diversity and self.group_by is None and self.mode is not Mode.HYBRID:
            return replace(plan, k=k)
        # No more originals are read than without: the whole shortlist is ranked.
        return replace(plan, k=k * max(plan.oversample, self.group_size), oversample=1)


@dataclass(frozen=True)
class Hit:
    """One found item."""

    item: Item
    score: float
    vector: NDArray[np.float32] | None = None
    group: Any = None
    """The value at the query's `group_by`; none where it has no such value."""
    explanation: Explanation | None = None
    snippet: str | None = None
    """The part of its text with most of the query's words, as HTML; none where it was not asked for."""
    chunk: Span | None = None
    """The part of its text that it was found by; none where texts are not cut."""

    @property
    def passage(self) -> str | None:
        """The text of that part, or all of it."""
        text = self.item.text
        return text if text is None or self.chunk is None else text[slice(*self.chunk)]


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first."""

    hits: list[Hit]
    generation: int | None
    partial_reason: str | None
    """Why there are fewer hits than there could be; none where there are not."""
    seen: frozenset[int] = frozenset()
    """Rows that the next page leaves out; none on the last page."""
    warning: str | None = None
    """What the encoder left out of texts that are longer than it reads."""
    profile: Profile | None = None
    """What the pass that answered it took."""
    probed: Probed | None = None
    """How far its last look into the buckets went; none where none was looked into."""


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
    return replace(plan, stage=plan.stage or Stage.REFINE)


def combined(positive: Vectors, negative: Vectors, metric: Metric, field: str) -> Vectors:
    """(p, D) and (n, D) examples to the (D,) point of a query: a single one itself, else p + (p - n), of the means.

    Source: Rocchio, "Relevance feedback in information retrieval", 1971, with both weights 1.

    Raises:
        InvalidInput: under cosine, the examples cancel each other out.
    """
    if len(positive) == 1 and not len(negative):
        return np.asarray(positive[0], np.float32)
    point = prepared(positive, metric).mean(axis=0)
    if len(negative):
        point = 2 * point - prepared(negative, metric).mean(axis=0)
    if metric is Metric.COSINE and not np.linalg.norm(point) > FAINTEST:
        raise InvalidInput("the examples cancel each other out: no direction is left", field=f"{field}negative")
    return np.asarray(point, np.float32)


def why_fewer(plan: Plan, missing: int) -> str | None:
    """What is told where an answer has `missing` hits too few; none where it has all."""
    if missing <= 0:
        return None
    if plan.kind is IndexKind.BUCKETS:
        instead = "try the index faiss" if plan.probes is None else "ask for more probes, or try the index faiss"
        return f"the nearest buckets held {missing} items too few, or some were deleted meanwhile; {instead}"
    return f"{missing} items were deleted or replaced during the search"
