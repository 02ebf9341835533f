"""Queries whose true neighbours are known, and what share of these a search finds. Knows no training and no SQL."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Neighbours, Vectors, recall
from service.index.exact import exact_search
from service.index.segment import RowArray
from service.index.view import View
from service.search import Plan, Stage, refined, rescorable, shortlisted

DEPTHS = (1, 10, 100)
"""The k of recall@k."""
FEWEST_FOR_100 = 200
"""Items beside the queries without which recall@100 is not measured: it would say how few items there are."""


class HeldOut(NamedTuple):
    """Items that the codec was not trained on; or queries, which are no items."""

    rows: RowArray
    """(q,); none of queries"""
    vectors: Vectors
    """(q, D)"""


@dataclass(frozen=True)
class Questions:
    """Held-out items asked of the view that they are in, each without itself, so that they are to it what a user's
    queries are; or queries that are no items.

    A codec knows the items that it was trained on better than others. Each query is asked of both as the collection has
    them: what it was trained on, and all the other held-out items.
    """

    view: View
    vectors: Vectors
    """(q, D)"""
    truth: RowArray
    """(q, k) true rows, best first, for the deepest k that is measured."""
    own: RowArray | None = None
    """(q,) rows that the queries themselves are, which are no answers."""

    @classmethod
    def of(cls, view: View, held_out: HeldOut, blocks: Iterable[tuple[RowArray, Vectors]]) -> "Questions":
        """The true neighbours by exact search over `blocks`, where the codec encodes: a job's uses CUDA if there is."""
        device, metric = view.codec.device, view.codec.metric
        deepest = 100 if len(view) - len(held_out.rows) >= FEWEST_FOR_100 else 10
        if not len(held_out.rows):
            return cls(view, held_out.vectors, exact_search(blocks, held_out.vectors, deepest, metric, device).rows)
        truth = exact_search(blocks, held_out.vectors, deepest + 1, metric, device)
        return cls(view, held_out.vectors, _without(truth, held_out.rows).rows, held_out.rows)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def depths(self) -> list[int]:
        """The k of recall@k that can be measured."""
        return [k for k in DEPTHS if k <= self.truth.shape[1]]

    def halves(self) -> tuple["Questions", "Questions"]:
        """Every second query, and the others: of each half there are early and late items."""
        own = (None, None) if self.own is None else (self.own[::2], self.own[1::2])
        first, second = (Questions(self.view, self.vectors[at::2], self.truth[at::2], own[at]) for at in (0, 1))
        return first, second

    def apart(self) -> View:
        """The view without the queries."""
        if self.own is None:
            return self.view
        no_rows, no_codes = np.empty(0, np.int64), np.empty((0, self.view.codec.code_bytes), np.uint8)
        return self.view.applied(self.view.applied_seq, no_rows, no_codes, self.own)

    def recall(self, plan: Plan) -> NDArray[np.float64]:
        """recall@k of each query, (q,).

        Rescoring ranks by exact scores: of the true neighbours it finds those whose originals it reads, so that none
        has to be read for it.
        """
        found = self._shortlist(plan)
        if plan.stage is Stage.RESCORE:
            rows = rescorable(self.view, found, plan)
        else:
            rows = refined(self.view, self.vectors, found, plan.k).rows
        return recall(rows, self.truth[:, : plan.k])

    def gaps(self, plan: Plan) -> NDArray[np.float32]:
        """How far the score of each true neighbour in a shortlist is below that one's k-th score; 0 above it."""
        found, k = self._shortlist(plan), plan.k
        true = (found.rows[:, :, None] == self.truth[:, None, :k]).any(axis=2) & (found.rows >= 0)
        last = found.scores[:, min(k, found.scores.shape[1]) - 1, None]
        gaps: NDArray[np.float32] = np.maximum(last - np.where(true, found.scores, last), 0)[true]
        return gaps

    def _shortlist(self, plan: Plan) -> Neighbours:
        if self.own is None:
            return shortlisted(self.view, self.vectors, plan)
        return _without(shortlisted(self.view, self.vectors, plan, more=1), self.own)


def _without(found: Neighbours, own: RowArray) -> Neighbours:
    """(q, m) rows to (q, m - 1) without the query itself; where it is not among them, without the last."""
    others = np.argsort(found.rows == own[:, None], axis=1, kind="stable")[:, :-1]
    return Neighbours(np.take_along_axis(found.rows, others, 1), np.take_along_axis(found.scores, others, 1))
