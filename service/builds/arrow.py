"""Reads Parquet, Arrow IPC files and Arrow streams, with pyarrow. Knows no other format."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.builds.block import Block
from service.builds.reader import Columns, Part, Reader
from service.index.segment import RowArray

BUFFER_BYTES = 1024 * 1024
"""Of a Parquet column read at once: without it a whole row group's column would be."""


class TableReader(Reader):
    """Batches of a column of ids and a column of vectors, which are lists of numbers, fixed in size or not."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self._columns = columns
        self._problem = ""
        self._sizes: list[int] = []
        """Rows of each piece that the file can be entered at: row groups, batches."""
        try:
            schema = self._open()
        except (OSError, pa.ArrowException) as error:
            self._problem = f"cannot be read: {error}"
            return
        for name in (columns.id, columns.vector):
            if name not in schema.names:
                self._problem = f"has no column {name!r}; it has {', '.join(schema.names)}"
                return
        kind = schema.field(columns.vector).type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        number = kind.value_type if lists else None
        if number is None or not (pa.types.is_floating(number) or pa.types.is_integer(number)):
            self._problem = f"column {columns.vector!r} holds {kind}; wanted are lists of numbers"

    def parts(self, size: int) -> list[Part]:
        """As many whole pieces as have `size` rows; the offset is the number of the first piece."""
        if self._problem:
            return [Part(0, 0)]
        parts, start, stop, first = [], 0, 0, 0
        for piece, rows in enumerate(self._sizes):
            if stop > start and stop + rows - start > size:
                parts.append(Part(start, stop, first))
                start, first = stop, piece
            stop += rows
        return [*parts, Part(start, stop, first)]

    def blocks(self, part: Part, size: int, wanted: RowArray | None = None) -> Iterator[Block]:
        """A piece that is damaged is a problem at its first row that cannot be read."""
        if self._problem:
            yield _empty({0: self._problem})
            return
        row = part.start
        try:
            for batch in self._batches(part, size):
                rows = np.arange(row, row + len(batch))
                row += len(batch)
                if wanted is not None:
                    positions = np.flatnonzero(np.isin(rows, wanted, assume_unique=True))
                    if not len(positions):
                        continue
                    rows, batch = rows[positions], batch.take(positions)
                yield self._block(rows, batch)
        except (OSError, pa.ArrowException) as error:
            yield _empty({row: f"rows {row} to {part.stop - 1} cannot be read: {error}"})

    def _block(self, rows: RowArray, batch: Any) -> Block:
        vectors = batch.column(self._columns.vector)
        lengths = np.asarray(pc.fill_null(pc.list_value_length(vectors), 0).to_numpy(zero_copy_only=False), np.int64)
        missing = np.flatnonzero(vectors.is_null().to_numpy(zero_copy_only=False))
        if len(missing):
            lengths = lengths.copy()
            lengths[missing] = 0
        with np.errstate(over="ignore"):
            values = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        problems = {int(rows[position]): f"{self._columns.vector}: missing" for position in missing.tolist()}
        return Block(rows, batch.column(self._columns.id).to_pylist(), values, lengths, problems)

    @abstractmethod
    def _open(self) -> Any:
        """The schema; fills `_sizes`."""

    @abstractmethod
    def _batches(self, part: Part, size: int) -> Iterator[Any]:
        """Record batches of at most `size` rows that make up the part."""


class ParquetReader(TableReader):
    """A piece is a row group."""

    def _open(self) -> Any:
        with pq.ParquetFile(self.path) as file:
            groups = file.metadata
            self._sizes = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
            return file.schema_arrow

    def _batches(self, part: Part, size: int) -> Iterator[Any]:
        with pq.ParquetFile(self.path, buffer_size=BUFFER_BYTES) as file:
            groups, rows = list[int](), 0
            while rows < len(part):
                groups.append(part.offset + len(groups))
                rows += self._sizes[groups[-1]]
            names = [self._columns.id, self._columns.vector]
            yield from file.iter_batches(size, row_groups=groups, columns=names, use_threads=False)


class IpcReader(TableReader):
    """A piece is a record batch, of a file (also called Feather) or of a stream, as datasets are saved."""

    def _open(self) -> Any:
        with pa.memory_map(str(self.path)) as source:
            if source.read(6) == b"ARROW1":
                source.seek(0)
                file = pa.ipc.open_file(source)
                self._sizes = [len(file.get_batch(number)) for number in range(file.num_record_batches)]
                return file.schema
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            try:
                self._sizes.extend(len(batch) for batch in stream)  # reads the headers only: the file is mapped
            except (OSError, pa.ArrowException):
                self._sizes.append(1)  # the piece that breaks off: reading it says why
            return stream.schema

    def _batches(self, part: Part, size: int) -> Iterator[Any]:
        with pa.memory_map(str(self.path)) as source:
            whole = source.read(6) == b"ARROW1"
            source.seek(0)
            opened = pa.ipc.open_file(source) if whole else pa.ipc.open_stream(source)
            for _ in range(0 if whole else part.offset):
                opened.read_next_batch()
            rows, piece = 0, part.offset
            while rows < len(part):
                batch = opened.get_batch(piece) if whole else opened.read_next_batch()
                piece += 1
                rows += len(batch)
                yield from (batch.slice(start, size) for start in range(0, len(batch), size))


def _empty(problems: dict[int, str]) -> Block:
    none = np.empty(0, np.int64)
    return Block(none, [], np.empty(0, np.float32), none, problems)
