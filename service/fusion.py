"""One order out of two: by words and by vectors. Knows no view and no HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Scores
from service.index.segment import RowArray
from service.index.text import Ranked


@dataclass(frozen=True)
class ReciprocalRank:
    """score(d) = sum over both lists of 1 / (k + rank of d), ranks from 1; a list without d adds nothing.

    Source: Cormack, Clarke and Buettcher, "Reciprocal rank fusion", SIGIR 2009.
    """

    k: int = 60
    """The larger, the less the first places weigh."""

    def fused(self, words: Ranked, vectors: Ranked, told: int = 0) -> Ranked:
        """Every row of both; `told` places of each list came before its first row here."""
        lists = []
        for rows, _ in (words, vectors):
            lists.append((rows, 1 / (self.k + told + np.arange(1, len(rows) + 1))))
        return _summed(lists)


@dataclass(frozen=True)
class Weights:
    """score(d) = text bm25(d) / best bm25 + (1 - text) (s(d) - worst s) / (best s - worst s), s of its vector.

    Best and worst are those of the list; one without d adds nothing.
    """

    text: float = 0.5
    """From 0, vectors alone, to 1, words alone."""

    def fused(self, words: Ranked, vectors: Ranked, told: int = 0) -> Ranked:  # noqa: ARG002 - scores, not places
        """Every row of both."""
        worded = self.text * words.scores / max(words.scores, default=1)
        return _summed([(words.rows, worded), (vectors.rows, (1 - self.text) * _places(vectors.scores))])


Fusion = ReciprocalRank | Weights


def _places(scores: Scores) -> Scores:
    """Between the worst, 0, and the best, 1; all 1 where they are equal."""
    if not len(scores) or scores[0] == scores[-1]:
        return np.ones_like(scores)
    return np.asarray((scores - scores[-1]) / (scores[0] - scores[-1]), np.float32)


def _summed(lists: Sequence[tuple[RowArray, NDArray[np.floating[Any]]]]) -> Ranked:
    """Best first, ties by older row."""
    rows, where = np.unique(np.concatenate([rows for rows, _ in lists]), return_inverse=True)
    scores = np.bincount(where, np.concatenate([scores for _, scores in lists]), len(rows)).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return Ranked(rows[order], scores[order])
