"""Items in a Parquet file, as `codewell export` writes them, with pyarrow. Knows no server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE = 2_000
"""Rows in memory at once."""


class UnreadableTable(Exception):
    """The file is damaged or none, or pyarrow is not installed; the message says which."""


def count(path: Path) -> int:
    """How many rows there are; every one of them is read, so that what is damaged is known before anything is sent.

    Raises:
        UnreadableTable
    """
    return sum(len(batch) for batch in _batches(path))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows, a field a column that has a value; lists of numbers are (D,) float32 arrays.

    Raises:
        UnreadableTable
    """
    for batch in _batches(path):
        columns = {name: _values(batch.column(name)) for name in batch.schema.names}
        for row in range(len(batch)):
            yield {name: values[row] for name, values in columns.items() if values[row] is not None}


def _values(column: Any) -> list[Any]:
    """A vector is not made a Python list of numbers on its way, which would be several times slower."""
    import pyarrow as pa

    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return [_vector(value.values) if value.is_valid else None for value in column]
    return list(column.to_pylist())


def _vector(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which the server refuses by name
        vector: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32)
    return vector


def _batches(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UnreadableTable("Parquet needs pyarrow: pip install 'codewell[build]'") from error
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(PAGE, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise UnreadableTable(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
