"""Which list a code stands in, by its first byte or its first two, and which lists are near a query.

Knows no FAISS and no slots.
"""

import numpy as np
from numpy.typing import NDArray

from models import Codes, ResidualCodec

CODEWORDS = 256
"""Of a byte."""
PAIRED = 800_000
"""Codes from which on two bytes name a list. So many lists find as much in a fifth of the codes, but each costs as much
as looking at eighty codes does: of half a million codes both take as long."""


class Grouped:
    """(n, M) codes in groups of equal leading bytes, in their order."""

    def __init__(self, codes: Codes) -> None:
        self._group(codes, 2 if len(codes) >= PAIRED and codes.shape[1] > 1 else 1)
        if len(self.sizes) <= CODEWORDS:  # how many lists there are tells how many bytes name them
            self._group(codes, 1)

    def _group(self, codes: Codes, width: int) -> None:
        keys = _leading(codes, width)
        self.order = np.argsort(keys, kind="stable")
        """(n,) slots, group by group"""
        sizes = np.bincount(keys, minlength=1)
        self.sizes = sizes[sizes > 0]
        """(l,) of the groups, of which none is empty"""


class Coarse:
    """The lists near a query: those whose leading codewords, as a vector of their own, score best."""

    def __init__(self, codec: ResidualCodec, firsts: Codes) -> None:
        """`firsts`: (l, M) a code out of each of l lists."""
        width = 1 if len(firsts) <= CODEWORDS else 2
        self._keys = _leading(firsts, width).astype(np.int64)
        books = codec.codebooks[:width]
        own = np.einsum("mkd,mkd->mk", books, books) - codec.lengths[:width]
        # Tables hold the codewords' shares of a whole code's |z|^2. Of a pair alone, |c_1 + c_2|^2 is known.
        left = own[0] if width == 1 else own[0][:, None] + own[1] + 2 * (books[0] @ books[1].T)
        self._left = np.asarray(left.ravel()[self._keys], np.float32)
        """(l,) of |z|^2 of the leading codewords, what their shares leave out"""

    def __len__(self) -> int:
        return len(self._keys)

    def nearest(self, tables: NDArray[np.float32], weight: float, count: int) -> NDArray[np.int64]:
        """The `count` best lists, all of them where there are fewer; ascending, for memory is read best in its order.

        `tables`: (M or more, 256) what each codeword adds to a score; `weight`: what |z|^2 counts in it.
        """
        if count >= len(self):
            return np.arange(len(self))
        scores = tables[0] if len(self) <= CODEWORDS else (tables[0][:, None] + tables[1]).ravel()
        costs = -(scores[self._keys] + np.float32(weight) * self._left)
        return np.sort(np.argpartition(costs, count)[:count])


def _leading(codes: Codes, width: int) -> NDArray[np.uint16]:
    """(n, M) codes to (n,), the numbers that their first `width` bytes are: the first byte counts most."""
    first = codes[:, 0].astype(np.uint16)
    return first if width == 1 else first * np.uint16(CODEWORDS) + codes[:, 1]
