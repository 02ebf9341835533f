"""Hash tables whose buckets are ranges of one array, in RAM or mapped. Knows no codec and no query."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FILES = SLOTS, BEGINS = "bucket-slots.npy", "bucket-begins.npy"


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

    @classmethod
    def mapped(cls, folder: Path) -> "HashTables":
        """The tables in files that `write` made; they stay there, and processes that map them share their pages."""
        return cls(*(np.asarray(np.load(folder / name, mmap_mode="r")) for name in FILES))

    def write(self, folder: Path) -> None:
        """Writes both of `FILES`."""
        np.save(folder / SLOTS, self.slots)
        np.save(folder / BEGINS, self.begins)

    @property
    def ram_bytes(self) -> int:
        """Bytes of both arrays."""
        return self.slots.nbytes + self.begins.nbytes

    def keys(self, buckets: int) -> NDArray[np.uint16]:
        """(n, tables) keys below `buckets`, whose tables these are."""
        tables = (len(self.begins) - 1) // buckets
        keys = np.empty((tables, len(self.slots) // tables), np.uint16)
        every = np.tile(np.arange(buckets, dtype=np.uint16), tables).repeat(np.diff(self.begins))
        for column, slots, own in zip(keys, np.split(self.slots, tables), np.split(every, tables), strict=True):
            column[slots] = own
        return keys.T

    def holds(self, slots: NDArray[np.int64], buckets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(s,) whether each slot stands in its bucket of (s,)."""
        held = np.zeros(len(slots), np.bool_)
        for place, (slot, bucket) in enumerate(zip(slots.tolist(), buckets.tolist(), strict=True)):
            entries = self.slots[self.begins[bucket] : self.begins[bucket + 1]]
            at = np.searchsorted(entries, slot)
            held[place] = at < len(entries) and entries[at] == slot
        return held

    def size(self, buckets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Entries of each of (b,) buckets."""
        return self.begins[buckets + 1].astype(np.int64) - self.begins[buckets]

    def entries(self, buckets: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots in (b,) buckets of such sizes, bucket by bucket."""
        ends = np.cumsum(sizes)
        shifts = np.repeat(self.begins[buckets] - (ends - sizes), sizes)
        return self.slots[shifts + np.arange(len(shifts))].astype(np.int64)
