"""Codes where FAISS keeps them, in inverted lists, by slot. Knows no codec and no search."""

import ctypes
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from models import Codes


def mapped_lists(path: Path) -> faiss.IndexIVF:
    """An index of inverted lists, which stay in its file."""
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    # It would start threads at every search to read what the kernel caches anyway: of 3.3 ms a search 1.2 are left.
    faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
    return index


class ListedCodes:
    """(n, code_bytes) uint8, to be indexed by slots: the only copy of the codes is that in the lists, in RAM or mapped.

    Slots are the ids in the lists. FAISS has no call that reads many codes by id, so they are read at their addresses:
    an index that is not changed does not move them.
    """

    def __init__(self, index: faiss.IndexIVF, code_bytes: int) -> None:
        self._index = index  # it holds the memory
        lists = index.invlists
        sizes = np.array([lists.list_size(number) for number in range(lists.nlist)], np.int64)
        self.filled = filled = np.flatnonzero(sizes)
        """(l,) numbers of the lists that are not empty"""
        ids = [faiss.rev_swig_ptr(lists.get_ids(number), int(sizes[number])) for number in filled.tolist()]
        self._place = np.empty(int(sizes.sum()), np.uint32)
        """(n,) of a slot, counted through all lists"""
        self._place[np.concatenate([np.empty(0, np.int64), *ids])] = np.arange(len(self._place), dtype=np.uint32)
        self._ends = np.cumsum(sizes[filled])
        """(l,) places at which filled lists end"""
        starts = np.array([int(lists.get_codes(number)) for number in filled.tolist()], np.int64)
        lowest, end = (int(starts.min()), int((starts + sizes[filled] * index.code_size).max())) if len(ids) else (0, 0)
        self._bytes: Codes = np.ctypeslib.as_array((ctypes.c_uint8 * (end - lowest)).from_address(lowest))
        self._shifts = starts - lowest - (self._ends - sizes[filled]) * index.code_size
        """(l,) from a place times the bytes of an entry to where the code is"""
        self._code_bytes = code_bytes

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, slots: NDArray[np.int64] | slice) -> Codes:
        """Slots of any shape to (..., code_bytes), a copy."""
        return self.entries(slots)[..., : self._code_bytes]

    def entries(self, slots: NDArray[np.int64] | slice) -> Codes:
        """Slots of any shape to (..., code_size): codes and what the index keeps behind them, a copy."""
        place = self._place[slots].astype(np.int64)
        at = place * self._index.code_size + self._shifts[np.searchsorted(self._ends, place, side="right")]
        entries: Codes = self._bytes[at[..., None] + np.arange(self._index.code_size)]
        return entries

    def firsts(self) -> Codes:
        """(l, code_bytes), the first code of each filled list."""
        starts = self._shifts + np.concatenate(([0], self._ends))[: len(self._ends)] * self._index.code_size
        firsts: Codes = self._bytes[starts[:, None] + np.arange(self._code_bytes)]
        return firsts

    @property
    def ram_bytes(self) -> int:
        """Bytes that it takes beside the lists."""
        return int(self._place.nbytes)
