"""Reads NPY matrices, with their ids in a text file beside them. Knows no other format."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.builds.block import Block
from service.builds.reader import File, Part, Reader
from service.builds.remote import RemoteFile
from service.index.segment import RowArray

GAP_BYTES = 128 * 1024
"""Between two wanted rows of a remote file that are read with them, for a request takes longer."""
RANGE_BYTES = 4 * 1024 * 1024
"""Of a remote file that are asked for in one request,"""
TOGETHER_BYTES = 64 * 1024 * 1024
"""and in all those that are under way."""


class NpyReader(Reader):
    """(n, D) float16, float32 or float64; a row's number is its id unless there is a file with one id a line."""

    def __init__(self, path: File, ids: Path | None = None) -> None:
        self.path = path
        self._ids = ids
        self._begin, self._rows, self._dim, self._type = 0, 0, 0, np.dtype("<f4")
        self._problem = ""
        """Of the file; what stands before it can be read."""
        try:
            with path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = header(file)
                self._begin = file.tell()
                size = file.seek(0, os.SEEK_END)
        except (OSError, ValueError) as error:
            self._problem = f"no NPY matrix: {error}"
            return
        if len(shape) != 2 or dtype.kind != "f" or fortran or not shape[1]:
            order = " in Fortran order" if fortran else ""
            self._problem = f"holds {dtype} of shape {shape}{order}; wanted are floats of shape (items, dimension)"
            return
        self._dim, self._type = shape[1], dtype
        self._rows = min(shape[0], (size - self._begin) // (shape[1] * dtype.itemsize))
        if self._rows < shape[0]:
            self._problem = f"the file is cut short: {self._rows} of {shape[0]} rows are there"

    def parts(self, size: int) -> list[Part]:
        """Rows are of equal length: the file can be entered anywhere."""
        starts = range(0, max(1, self._rows), size)
        return [Part(start, min(start + size, self._rows)) for start in starts]

    def blocks(self, part: Part, size: int, wanted: RowArray | None = None) -> Iterator[Block]:
        """Reads through a memory map, or by ranges; a file that is cut short says so behind its last row."""
        rows = np.arange(part.start, part.stop) if wanted is None else wanted
        path = self.path
        read = partial(self._fetched, path) if isinstance(path, RemoteFile) else partial(_taken, self._mapped(path))
        ids = None if self._ids is None else _lines(self._ids, part)
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            given = read(chosen)
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
                vectors = np.array(given, np.float32)
            named = None if ids is None else [ids[row - part.start] for row in chosen.tolist()]
            yield Block(chosen, named, vectors.ravel(), np.full(len(chosen), self._dim), {})
        if self._problem and part.stop == self._rows:
            none = np.empty(0, np.int64)
            yield Block(none, None if ids is None else [], np.empty(0, np.float32), none, {self._rows: self._problem})

    def _mapped(self, path: Path) -> NDArray[Any]:
        """All rows, (rows, D)."""
        shape = (self._rows, self._dim)
        return np.memmap(path, self._type, "r", self._begin, shape) if self._rows else np.empty(shape, self._type)

    def _fetched(self, file: RemoteFile, rows: RowArray) -> NDArray[Any]:
        """(n, D) of ascending rows, in ranges that take in small gaps, several at a time."""
        stride, vectors = self._dim * self._type.itemsize, np.empty((len(rows), self._dim), self._type)
        splits = np.flatnonzero(np.diff(rows) > 1 + GAP_BYTES // stride) + 1
        runs, most = list[RowArray](), max(1, RANGE_BYTES // stride)
        for run in np.split(rows, splits):
            pieces = (run - run[0]) // most
            runs += np.split(run, np.flatnonzero(np.diff(pieces)) + 1)
        together, done = max(1, TOGETHER_BYTES // RANGE_BYTES), 0
        for first in range(0, len(runs), together):
            some = runs[first : first + together]
            begins = [self._begin + int(run[0]) * stride for run in some]
            ends = [self._begin + (int(run[-1]) + 1) * stride for run in some]
            for run, content in zip(some, file.ranges(begins, ends), strict=True):
                got = np.frombuffer(content, self._type).reshape(-1, self._dim)
                vectors[done : done + len(run)] = got[run - run[0]]
                done += len(run)
        return vectors


def _taken(matrix: NDArray[Any], rows: RowArray) -> NDArray[Any]:
    """(n, D) of ascending rows; a run of them is not copied."""
    whole = rows[-1] - rows[0] + 1 == len(rows)
    return matrix[rows[0] : rows[-1] + 1] if whole else matrix[rows]


def _lines(path: Path, part: Part) -> list[str | None]:
    """An id for each row of the part; none where the file of ids ends before."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        ids = [line.rstrip("\r\n") for line in islice(lines, part.start, part.stop)]
    return [one or None for one in ids] + [None] * (len(part) - len(ids))
