"""Queries whose true neighbours are known, and what share of these a search finds. Knows no training and no SQL."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Vectors, recall
from service.index.exact import exact_search
from service.index.segment import RowArray
from service.index.view import View
from service.search import Plan, Stage, rescorable, search, shortlisted

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
    """Held-out items asked of a view without them, so that they are to it what users' queries are; or such queries."""

    view: View
    vectors: Vectors
    """(q, D)"""
    truth: RowArray
    """(q, k) true rows, best first, for the deepest k that is measured."""

    @classmethod
    def of(cls, view: View, held_out: HeldOut, blocks: Iterable[tuple[RowArray, Vectors]]) -> "Questions":
        """The true neighbours by exact search over `blocks`; held-out items are left out of them and of the view."""
        no_rows, no_codes = np.empty(0, np.int64), np.empty((0, view.codec.code_bytes), np.uint8)
        asked = view.applied(view.applied_seq, no_rows, no_codes, held_out.rows)
        deepest = 100 if len(asked) >= FEWEST_FOR_100 else 10
        kept = ((rows, ~np.isin(rows, held_out.rows), vectors) for rows, vectors in blocks)
        others = ((rows[keep], vectors[keep]) for rows, keep, vectors in kept)
        truth = exact_search(others, held_out.vectors, deepest, view.codec.metric)
        return cls(asked, held_out.vectors, truth.rows)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def depths(self) -> list[int]:
        """The k of recall@k that can be measured."""
        return [k for k in DEPTHS if k <= self.truth.shape[1]]

    def halves(self) -> tuple["Questions", "Questions"]:
        """Every second query, and the others: of each half there are early and late items."""
        first, second = (Questions(self.view, self.vectors[at::2], self.truth[at::2]) for at in (0, 1))
        return first, second

    def recall(self, plan: Plan) -> NDArray[np.float64]:
        """recall@k of each query, (q,).

        Rescoring ranks by exact scores: of the true neighbours it finds those whose originals it reads, so that none
        has to be read for it.
        """
        if plan.stage is Stage.RESCORE:
            rows = rescorable(self.view, shortlisted(self.view, self.vectors, plan), plan)
        else:
            rows = search(self.view, self.vectors, plan, _no_originals).rows
        return recall(rows, self.truth[:, : plan.k])

    def gaps(self, plan: Plan) -> NDArray[np.float32]:
        """How far the score of each true neighbour in a shortlist is below that one's k-th score; 0 above it."""
        found, k = shortlisted(self.view, self.vectors, plan), plan.k
        true = (found.rows[:, :, None] == self.truth[:, None, :k]).any(axis=2) & (found.rows >= 0)
        last = found.scores[:, min(k, found.scores.shape[1]) - 1, None]
        gaps: NDArray[np.float32] = np.maximum(last - np.where(true, found.scores, last), 0)[true]
        return gaps


def _no_originals(rows: RowArray) -> Mapping[int, bytes]:
    raise AssertionError(f"codes alone rank {len(rows)} rows")
