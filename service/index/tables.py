"""Hash tables whose buckets are ranges of one array. Knows no codec and no query."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class HashTables(NamedTuple):
    """All tables one behind the other, so that a bucket is a number and its slots are one range."""

    slots: NDArray[np.uint32]
    """(tables * n,) in the order of their keys"""
    begins: NDArray[np.uint32]
    """(tables * buckets + 1,)"""

    @classmethod
    def of(cls, keys: NDArray[np.uint16], buckets: int) -> "HashTables":
        """The tables of (n, tables) keys, each below `buckets`."""
        slots = [np.argsort(column, kind="stable") for column in keys.T]
        sizes = [np.bincount(column, minlength=buckets) for column in keys.T]
        begins = np.concatenate(([0], np.cumsum(np.concatenate(sizes))))
        return cls(np.concatenate(slots).astype(np.uint32), begins.astype(np.uint32))

    @property
    def ram_bytes(self) -> int:
        """Bytes of both arrays."""
        return self.slots.nbytes + self.begins.nbytes

    def size(self, buckets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Entries of each of (b,) buckets."""
        return self.begins[buckets + 1].astype(np.int64) - self.begins[buckets]

    def entries(self, buckets: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots in (b,) buckets of such sizes, bucket by bucket."""
        ends = np.cumsum(sizes)
        shifts = np.repeat(self.begins[buckets] - (ends - sizes), sizes)
        return self.slots[shifts + np.arange(len(shifts))].astype(np.int64)
