"""Which rows are chunks of one item: an immutable view that follows the log. Knows no SQL, no vectors and no texts."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.index.segment import RowArray
from service.index.text import Ranked
from service.index.view import View


class Rolled(NamedTuple):
    """Items, best first, each by its best chunk."""

    items: Ranked
    """By their rows: those of their first chunks."""
    chunks: RowArray
    """(r,) the row of each item's best chunk"""


@dataclass(frozen=True)
class ChunkView:
    """Items with several rows; any other row is an item by itself. The rows of an item follow on its own."""

    applied_seq: int
    items: RowArray
    """(n,) ascending"""
    sizes: NDArray[np.int64]
    """(n,) how many rows each has"""

    def applied(self, seq: int, items: RowArray, sizes: NDArray[np.int64], removed: RowArray) -> "ChunkView":
        """The view after the log up to `seq`: `items` above all others and ascending, and `removed` rows."""
        every, numbers = np.concatenate((self.items, items)), np.concatenate((self.sizes, sizes))
        keep = ~np.isin(every, removed)
        return ChunkView(seq, every[keep], numbers[keep])

    def items_of(self, rows: RowArray) -> RowArray:
        """The item of each row, in any order."""
        if not len(self.items):
            return rows
        places = np.maximum(np.searchsorted(self.items, rows, side="right") - 1, 0)
        first = self.items[places]
        return np.where((rows >= first) & (rows < first + self.sizes[places]), first, rows)

    def rows_of(self, items: RowArray) -> RowArray:
        """The rows of items, item by item."""
        if not len(self.items):
            return items
        places = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        sizes = np.where(self.items[places] == items, self.sizes[places], 1)
        begins = np.cumsum(sizes) - sizes
        return np.repeat(items - begins, sizes) + np.arange(sizes.sum())

    def count(self, view: View, *, whole: bool) -> int:
        """The items with live rows; `whole`: nothing is left out of the view."""
        if whole and view.applied_seq == self.applied_seq:
            return len(view) - int((self.sizes - 1).sum())
        rows = view.live_rows()
        return int((self.items_of(rows) == rows).sum())

    def rolled(self, ranked: Ranked) -> Rolled:
        """The items of rows that are ranked."""
        items = self.items_of(ranked.rows)
        best = np.sort(np.unique(items, return_index=True)[1])
        return Rolled(Ranked(items[best], ranked.scores[best]), ranked.rows[best])
