"""A query on its way: its point, and what was found for it. Knows no view and no database."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models import Scores, Vectors
from service.deadline import Deadline
from service.filter import Value
from service.index.segment import RowArray
from service.query import Mode, Query
from service.search import Probed


@dataclass
class Asked:
    """A query on its way: its point, and what was found for it."""

    query: Query
    point: Vectors
    """(D,); zeros in the mode text"""
    own_rows: frozenset[int]
    """Of its examples, which are no answer to it."""
    warning: str | None
    rows: RowArray = field(default_factory=lambda: np.empty(0, np.int64))
    scores: Scores = field(default_factory=lambda: np.empty(0, np.float32))
    expected: int = 0
    """Hits that there should be."""
    more: bool = False
    """Whether there is more than was asked for."""
    told: int = 0
    """Places of both lists that were fused so far."""
    cut: str | None = None
    """What it has to do without, for its time was over."""
    groups: dict[int, Value | None] = field(default_factory=dict)
    """The value that each row's group has."""
    probed: Probed | None = None
    """How far the last look into the buckets went."""
    chunks: dict[int, int] = field(default_factory=dict)
    """The row of the chunk that each item was found by, where texts are cut; `rows` are the items' own."""

    @property
    def is_a_users(self) -> bool:
        """Whether its point is what a user looks for: no item's, no mixture, and no page after the first."""
        query = self.query
        plain = len(query.positive) == 1 and not query.negative and not query.boost and not query.suppress
        return plain and query.mode is not Mode.TEXT and not self.own_rows and not query.seen

    @property
    def found_by(self) -> RowArray:
        """Of each item the row that it was found by."""
        return np.array([self.chunks.get(row, row) for row in self.rows.tolist()], np.int64)


def tell(members: Sequence[Asked], deadline: Deadline) -> None:
    """Gives each query of a pass what was noted of it."""
    for place, why in deadline.told().items():
        members[place].cut = members[place].cut or why
