"""A built folder as a collection that is searched and never changes. Knows no database and no HTTP."""

from collections.abc import Mapping
from dataclasses import replace
from threading import Semaphore
from typing import Any, NamedTuple

import numpy as np

from service.builds.generation import Generation
from service.deadline import Deadline
from service.errors import CollectionNotFound, InvalidInput
from service.index.segment import IndexKind, RowArray
from service.item import checked_vector
from service.query import Query, why_fewer
from service.search import Plan, Probed, Stage, search


class Found(NamedTuple):
    """The answer to one question, best first."""

    hits: list[tuple[str, float]]
    """Ids and scores."""
    partial_reason: str | None
    probed: Probed | None


class ReadOnlyCollection:
    """Thread-safe; ranks by codes, for the folder has no vectors."""

    def __init__(self, name: str, generation: Generation, computing: Semaphore) -> None:
        self.name = name
        self.generation = generation
        self.certificate: Mapping[str, Any] = generation.manifest.certificate(generation.folder)
        self._computing = computing

    def search(self, name: str, query: Query, deadline: Deadline) -> Found:
        """The items nearest to the query's vector.

        Raises:
            CollectionNotFound; InvalidInput: it asks for what codes and ids cannot tell; OutOfTime.
        """
        if name not in (self.name, "default"):
            raise CollectionNotFound(name, field=f"{query.field}collection")
        vector = self._vector(query)
        plan, view, probed = self._plan(query), self.generation.view, list[Probed]()
        with deadline.turn(self._computing):
            found = search(view, vector[None], plan, _no_originals, deadline=deadline, probed=probed)
        rows, scores = found.rows[0], found.scores[0]
        there = (rows >= 0) & (scores >= (-np.inf if query.min_score is None else query.min_score))
        hits = [
            (self.generation.id(row), score) for row, score in zip(rows[there].tolist(), scores[there], strict=True)
        ]
        short = why_fewer(plan, min(plan.k, len(view)) - int((rows >= 0).sum()))
        return Found(
            [(one, float(score)) for one, score in hits], deadline.told().get(0) or short, probed[0] if probed else None
        )

    def _vector(self, query: Query) -> np.ndarray[Any, np.dtype[np.float32]]:
        view, (given, *others) = self.generation.view, (*query.positive, *query.negative)
        if others or given.vector is None:
            raise InvalidInput(
                "a built folder has neither texts nor vectors: ask by one vector", field=f"{query.field}vector"
            )
        return checked_vector(given.vector, view.codec.dim, view.codec.metric, f"{query.field}vector")

    def _plan(self, query: Query) -> Plan:
        plan, told = query.plan, self.certificate
        if plan.kind is IndexKind.EXACT or plan.stage is Stage.RESCORE:
            field = "index" if plan.kind is IndexKind.EXACT else "stage"
            raise InvalidInput("a built folder has codes only: leave it out", field=f"{query.field}{field}")
        oversample = told.get("oversample", plan.oversample) if query.tuned else plan.oversample
        scan = plan.scan or told.get("scan", 1)
        return replace(plan, oversample=oversample, scan=scan, stage=plan.stage or Stage.REFINE)


def _no_originals(rows: RowArray) -> Mapping[int, bytes]:
    raise AssertionError(f"codes alone rank {len(rows)} rows")
