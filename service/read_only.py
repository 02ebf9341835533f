"""A built folder as a collection that is searched and never changes. Knows no database and no HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Semaphore
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Scores
from service.builds.generation import Generation
from service.deadline import Deadline
from service.errors import InvalidInput, OutOfTime
from service.index.segment import IndexKind, RowArray
from service.item import checked_vector
from service.query import Query, why_fewer
from service.search import Plan, Probed, Stage, search


class Found(NamedTuple):
    """The answer to one question, best first."""

    hits: list[tuple[str, float]]
    """Ids and scores."""
    cut: str | None
    """What it had no time for, or whom nobody could ask; none where it was looked for to the end."""
    probed: Probed | None
    fewer: str | None = None
    """Why there are fewer hits than were asked for; none where there are not."""

    @property
    def partial_reason(self) -> str | None:
        """Why there may be better hits, or more; none where there are not."""
        return self.cut or self.fewer


class ReadOnlyCollection:
    """Thread-safe; ranks by codes, for the folder has no vectors."""

    def __init__(self, name: str, generation: Generation, computing: Semaphore) -> None:
        self.name = name
        self.generation = generation
        self.manifest = generation.manifest
        for shard in generation.shards:
            shard.hold()  # a newer build removes the files of the one that is searched
        self.certificate: Mapping[str, Any] = generation.manifest.certificate(generation.folder)
        self._computing = computing

    def search(self, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        """The items nearest to each query's vector; those with equal plans are looked for in one pass.

        Raises:
            InvalidInput: one asks for what codes and ids cannot tell; OutOfTime: there is nothing. Where only a later
                pass has no time, its queries are told so.
        """
        vectors, passes = [self._vector(query) for query in queries], dict[Plan, list[int]]()
        for place, query in enumerate(queries):
            passes.setdefault(self._plan(query), []).append(place)
        answers: dict[int, Found] = {}
        for number, (plan, places) in enumerate(passes.items()):
            probed, asked = list[Probed](), np.stack([vectors[place] for place in places])
            try:
                if number and deadline.over:
                    raise deadline.missed()
                with deadline.turn(self._computing):
                    found = search(self.generation.view, asked, plan, _no_originals, deadline=deadline, probed=probed)
            except OutOfTime as error:
                if not number:
                    raise
                answers |= dict.fromkeys(places, Found([], error.left_out, None))
                continue
            cut = deadline.told()
            for at, (place, rows, scores) in enumerate(zip(places, *found, strict=True)):
                looked = probed[at] if at < len(probed) else None  # where the time was over there are fewer
                answers[place] = self._found(queries[place], plan, rows, scores, cut.get(at), looked)
        return [answers[place] for place in range(len(queries))]

    def close(self) -> None:
        """The system frees its files when nobody searches them any more."""

    def _found(
        self, query: Query, plan: Plan, rows: RowArray, scores: Scores, cut: str | None, probed: Probed | None
    ) -> Found:
        there = (rows >= 0) & (scores >= (-np.inf if query.min_score is None else query.min_score))
        ids = [self.generation.id(row) for row in rows[there].tolist()]
        missing = min(plan.k, len(self.generation)) - int((rows >= 0).sum())
        return Found(list(zip(ids, scores[there].tolist(), strict=True)), cut, probed, why_fewer(plan, missing))

    def _vector(self, query: Query) -> NDArray[np.float32]:
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
