"""The vectors that codes are compared on, and which of them stand for what. Knows no codec."""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Metric, Vectors, prepared
from service.builds.block import accepted
from service.builds.npy import NpyReader
from service.errors import InvalidInput

BLOCK = 10_000
"""Rows read at once."""
FEWEST = 200
"""Vectors that say anything about a code."""
QUERIES, QUERY_SHARE = 1_000, 0.1
"""Queries at most, and the share of the vectors that they take where no others are given."""
TRAINED_SHARE = 0.7
"""Of the vectors, in the file's order; the others are late."""


class Read(NamedTuple):
    """What a file held."""

    vectors: Vectors
    """(n, D), prepared for the metric"""
    rejects: dict[int, str]
    """Why rows were left out, by their number."""
    rows: int
    """Of the whole file."""


class Cut(NamedTuple):
    """Numbers of vectors, ascending."""

    seen: NDArray[np.int64]
    """Trained on."""
    late: NDArray[np.int64]
    """Later ones, which no training sees."""
    asked: NDArray[np.int64]
    """Queries, which are not searched; none where others are given."""

    @classmethod
    def of(cls, n: int, *, asks: bool) -> "Cut":
        """Cuts n vectors.

        Raises:
            InvalidInput: there are too few.
        """
        if n < FEWEST:
            raise InvalidInput(f"{n} vectors are too few to compare codes on; {FEWEST} is the least", field="VECTORS")
        asked = _evenly(n, min(QUERIES, int(n * QUERY_SHARE)) if asks else 0)
        searched = np.setdiff1d(np.arange(n), asked)
        seen, late = np.split(searched, [round(len(searched) * TRAINED_SHARE)])
        return cls(seen, late, asked)


class Sample(NamedTuple):
    """Vectors that are compared, prepared for the metric."""

    seen: Vectors
    """Trained on."""
    trained: Vectors
    """As many of those as there are late ones, evenly spaced: one half of what is searched,"""
    late: Vectors
    """and the other: later rows, which no training sees."""
    queries: Vectors

    @classmethod
    def of(cls, vectors: Vectors, queries: Vectors | None) -> "Sample":
        """Cuts (n, D) vectors; without (q, D) queries some of them, evenly spaced, are asked for instead of searched.

        Raises:
            InvalidInput: there are too few.
        """
        cut = Cut.of(len(vectors), asks=queries is None)
        seen, late = vectors[cut.seen], vectors[cut.late]
        queries = vectors[cut.asked] if queries is None else queries
        return cls(seen, seen[_evenly(len(seen), len(late))], late, queries[_evenly(len(queries), QUERIES)])


def read(path: Path, most: int, metric: Metric, field: str, dim: int | None = None) -> Read:
    """At most `most` rows of an NPY matrix, evenly spaced and in their order.

    Raises:
        InvalidInput: naming `field`: it is no matrix of floats, none of its rows can be used, or they are not of `dim`
            numbers.
    """
    reader = NpyReader(path)
    (part,) = reader.parts(sys.maxsize)
    parts, rejects = [np.empty((0, dim or 0), np.float32)], dict[int, str]()
    for block in reader.blocks(part, BLOCK, _evenly(len(part), most)):
        width = int(block.lengths[0]) if len(block.rows) else dim or 0
        if dim not in (None, width):
            raise InvalidInput(f"{path} has vectors of {width} numbers; wanted are {dim}", field=field)
        rows = accepted(block, width, metric)
        rejects |= rows.rejects
        if len(rows.rows):
            parts.append(prepared(rows.vectors, metric))
    if not any(map(len, parts)):
        raise InvalidInput(f"{path}: {next(iter(rejects.values()), 'there are no rows')}", field=field)
    return Read(np.concatenate([vectors for vectors in parts if len(vectors)]), rejects, len(part))


def _evenly(n: int, most: int) -> NDArray[np.int64]:
    """Ascending rows of n, evenly spaced, `most` of them or all."""
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)
