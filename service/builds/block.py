"""Rows as a file holds them, and which of them can be kept. Knows no file format and no codec."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Metric, Vectors
from service.errors import CodewellError
from service.given import given_id
from service.index.segment import RowArray
from service.item import LONGEST_SQUARE, SHORTEST_SQUARE, checked_vector


class Block(NamedTuple):
    """Some rows of one file, ascending, as they were read: vectors may be of any length and hold anything."""

    rows: RowArray
    """(n,) numbers of the rows in their file, from 0; of lines, too."""
    ids: Sequence[object] | None
    """(n,) or none: then a row's number is its id."""
    values: NDArray[np.float32]
    """The vectors' numbers, one vector after the other."""
    lengths: NDArray[np.int64]
    """(n,) how many of them are each row's."""
    problems: Mapping[int, str]
    """Why rows could not be read, by number; rows that the file lost may be beyond `rows`."""


class Accepted(NamedTuple):
    """What of a block can be kept, and what cannot."""

    rows: RowArray
    """(m,)"""
    ids: list[str] | None
    vectors: Vectors
    """(m, D)"""
    rejects: dict[int, str]
    """Reasons by row number."""


def accepted(block: Block, dim: int, metric: Metric) -> Accepted:
    """The rows that have an id and a vector of `dim` finite numbers, which under cosine is not zero."""
    rejects = dict(block.problems)
    fits = block.lengths == dim
    begins = np.cumsum(block.lengths) - block.lengths
    if fits.all():
        vectors = block.values.reshape(len(fits), dim)
    else:
        vectors = np.zeros((len(fits), dim), np.float32)
        vectors[fits] = block.values[begins[fits, None] + np.arange(dim)]
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    shortest = SHORTEST_SQUARE if metric is Metric.COSINE else 0
    good = fits & (squares >= shortest) & (squares <= LONGEST_SQUARE)  # NaN compares as false
    for position in np.flatnonzero(~good).tolist():
        row = int(block.rows[position])
        if row not in rejects:
            rejects[row] = _problem(vectors[position], int(block.lengths[position]), dim, metric)
    ids = None if block.ids is None else _ids(block.ids, block.rows, rejects)
    if rejects:
        good = ~np.isin(block.rows, list(rejects))
    if good.all():
        return Accepted(block.rows, ids, vectors, rejects)
    kept = np.flatnonzero(good)
    return Accepted(block.rows[kept], ids and [ids[position] for position in kept], vectors[kept], rejects)


def _problem(vector: NDArray[np.float32], length: int, dim: int, metric: Metric) -> str:
    if length != dim:
        return f"vector: {length} numbers instead of {dim}"
    try:
        checked_vector(vector, dim, metric, "vector")
    except CodewellError as error:
        return f"vector: {error.detail}"
    raise AssertionError("a vector that is good was taken for a bad one")


def _ids(given: Sequence[object], rows: RowArray, rejects: dict[int, str]) -> list[str]:
    ids = []
    for row, one in zip(rows.tolist(), given, strict=True):
        try:
            ids.append(given_id(one))
        except ValueError as error:
            ids.append("")
            rejects.setdefault(row, "id: missing" if one is None else f"id: {error}")
    return ids
