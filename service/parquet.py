"""Items in a Parquet file, as `codewell export` writes them, read with pyarrow. Knows no server."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE = 2_000
"""Rows in memory at once,"""
PAGE_NUMBERS = 4_000_000
"""or fewer, where their vectors have so many numbers together: a small file can stand for endless ones."""
LONGEST_VECTOR = 65_536
"""Numbers of a vector, on average over a group of rows."""
KINDS = {
    "id": "strings or whole numbers",
    "text": "strings",
    "metadata": "strings of JSON",
    "vector": "lists of numbers",
}


class UnreadableTable(Exception):
    """The file is damaged, or its columns are none of items, or pyarrow is not installed; the message says which."""


class ItemTable:
    """The rows of one file; `names` has what the columns id, text and vector are called in it.

    Every row is read once to count it, so that what is damaged is known before anything is sent.

    Raises:
        UnreadableTable
    """

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        self._path = path
        self._columns = {**names, "metadata": "metadata"}
        self._vectors = self._columns["vector"]
        self.total = sum(len(batch) for batch in self._batches())

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row's values by column, without those that are null; vectors are (D,) float32 arrays."""
        for batch in self._batches():
            columns = {name: batch.column(name) for name in batch.schema.names}
            for row in range(len(batch)):
                values = {name: self._value(name, column[row]) for name, column in columns.items()}
                yield {name: value for name, value in values.items() if value is not None}

    def _value(self, name: str, cell: Any) -> Any:
        if name == self._vectors and cell.is_valid:  # as Python's numbers they would be several times slower
            return _vector(cell.values)
        return cell.as_py()

    def _batches(self) -> Iterator[Any]:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise UnreadableTable("Parquet needs pyarrow: pip install 'codewell[build]'") from error
        try:
            strings = [name for name in pq.read_schema(self._path).names if name != self._vectors]
            # A text that many rows share is in memory once, as it is in the file.
            with pq.ParquetFile(self._path, read_dictionary=strings) as file:
                self._check(file.schema_arrow)
                for group in range(file.num_row_groups):
                    page = self._page(file.metadata.row_group(group))
                    yield from file.iter_batches(page, row_groups=[group], use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise UnreadableTable(f"{self._path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error

    def _page(self, group: Any) -> int:
        """Rows of the group that are read at once."""
        columns = [group.column(place) for place in range(group.num_columns)]
        longest = int(max((one.num_values for one in columns), default=0)) // max(1, int(group.num_rows))
        if longest > LONGEST_VECTOR:
            raise UnreadableTable(
                f"the vectors of {self._path} have {longest} numbers, as its groups of rows say; "
                f"{LONGEST_VECTOR} are most"
            )
        return max(1, min(PAGE, PAGE_NUMBERS // max(1, longest)))

    def _check(self, schema: Any) -> None:
        roles = {given: role for role, given in self._columns.items()}
        for column in schema:
            role = roles.get(column.name)
            if role is None:
                raise UnreadableTable(
                    f"{self._path} has a column {column.name!r}; an item has {', '.join(roles)} and no other"
                )
            if not _holds(role, column.type):
                raise UnreadableTable(
                    f"the column {column.name!r} of {self._path} holds {column.type}; wanted are {KINDS[role]}"
                )


def _holds(role: str, kind: Any) -> bool:
    from pyarrow import types

    if role == "vector":
        lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))
    kind = kind.value_type if types.is_dictionary(kind) else kind
    strings = types.is_string(kind) or types.is_large_string(kind)
    return bool(strings or (role == "id" and types.is_integer(kind)))


def _vector(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which the server refuses by name
        vector: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32)
    return vector
