"""Reads Parquet, Arrow IPC files and Arrow streams, with pyarrow. Knows no other format."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.builds.block import Block
from service.builds.reader import Columns, File, Part, Reader
from service.builds.remote import RemoteFile, buffered
from service.index.segment import RowArray

BUFFER_BYTES = 1024 * 1024
"""Of a Parquet column read at once: without it a whole row group's column would be."""
REMOTE_BUFFER_BYTES = 8 * 1024 * 1024
"""The same of a remote file, where each piece is a request."""


class TableReader(Reader):
    """Batches of a column of ids and a column of vectors, which are lists of numbers, fixed in size or not."""

    def __init__(self, path: File, columns: Columns) -> None:
        self.path = path
        self._columns = columns
        self._problem = ""
        try:
            schema = self._schema()
            self._known = None if isinstance(path, RemoteFile) else self._sizes()
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
        try:
            sizes = self._sizes() if self._known is None else self._known
        except (OSError, pa.ArrowException):
            return [Part(0, 0)]  # reading it says why
        for piece, rows in enumerate(sizes):
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
            if not len(part) and self._known is None:
                self._sizes()
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
    def _schema(self) -> Any:
        """Of the whole table."""

    @abstractmethod
    def _sizes(self) -> list[int]:
        """Rows of each piece that the file can be entered at: row groups, batches."""

    @abstractmethod
    def _batches(self, part: Part, size: int) -> Iterator[Any]:
        """Record batches of at most `size` rows that make up the part."""


class ParquetReader(TableReader):
    """A piece is a row group; of a remote file the footer and the two columns are read."""

    def _schema(self) -> Any:
        with self._opened() as source, pq.ParquetFile(source) as file:
            self._groups = file.metadata
            return file.schema_arrow

    def _sizes(self) -> list[int]:
        return [self._groups.row_group(number).num_rows for number in range(self._groups.num_row_groups)]

    def _batches(self, part: Part, size: int) -> Iterator[Any]:
        most = REMOTE_BUFFER_BYTES if isinstance(self.path, RemoteFile) else BUFFER_BYTES
        with self._opened() as source, pq.ParquetFile(source, metadata=self._groups, buffer_size=most) as file:
            groups, rows = list[int](), 0
            while rows < len(part):
                groups.append(part.offset + len(groups))
                rows += self._groups.row_group(groups[-1]).num_rows
            names = [self._columns.id, self._columns.vector]
            yield from file.iter_batches(size, row_groups=groups, columns=names, use_threads=False)

    def _opened(self) -> AbstractContextManager[Any]:
        return self.path.pieces() if isinstance(self.path, RemoteFile) else nullcontext(self.path)


class IpcReader(TableReader):
    """A piece is a record batch, of a file (also called Feather) or of a stream, as datasets are saved. A remote stream
    is one piece, for it can be entered at its beginning only.
    """

    def _schema(self) -> Any:
        with self._opened() as source:
            return (pa.ipc.open_file if _whole(source) else pa.ipc.open_stream)(source).schema

    def _sizes(self) -> list[int]:
        with self._opened() as source:
            if _whole(source):
                file = self._columns_of(source, self._columns.id)
                return [len(file.get_batch(number)) for number in range(file.num_record_batches)]
            stream, sizes = pa.ipc.open_stream(source), list[int]()
            try:
                sizes.extend(len(batch) for batch in stream)  # reads the headers only where the file is mapped
            except (OSError, pa.ArrowException):
                sizes.append(1)  # the piece that breaks off: reading it says why
            return [sum(sizes)] if isinstance(self.path, RemoteFile) else sizes

    def _batches(self, part: Part, size: int) -> Iterator[Any]:
        with self._opened() as source:
            whole = _whole(source)
            opened = (
                self._columns_of(source, self._columns.id, self._columns.vector)
                if whole
                else pa.ipc.open_stream(source)
            )
            for _ in range(0 if whole else part.offset):
                opened.read_next_batch()
            rows, piece = 0, part.offset
            while rows < len(part):
                batch = opened.get_batch(piece) if whole else opened.read_next_batch()
                piece += 1
                rows += len(batch)
                yield from (batch.slice(start, size) for start in range(0, len(batch), size))

    def _columns_of(self, source: Any, *names: str) -> Any:
        """The file, of which no more is read than these columns; a column's number is that in the schema."""
        if not isinstance(self.path, RemoteFile):
            return pa.ipc.open_file(source)
        schema = pa.ipc.open_file(source).schema
        numbers = sorted({schema.get_field_index(name) for name in names})
        return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=numbers))

    def _opened(self) -> AbstractContextManager[Any]:
        if isinstance(self.path, RemoteFile):
            pieces = self.path.pieces()
            exact = _whole(pieces)  # a file's batches are asked for one by one; a stream is read to its end
            return pa.PythonFile(pieces if exact else buffered(pieces), "r")  # type: ignore[no-any-return]
        return pa.memory_map(str(self.path))  # type: ignore[no-any-return]


def _whole(source: Any) -> bool:
    """Whether it is a file, which ends in a list of its batches, and no stream."""
    source.seek(0)
    begin: bytes = source.read(6)
    source.seek(0)
    return begin == b"ARROW1"


def _empty(problems: dict[int, str]) -> Block:
    none = np.empty(0, np.int64)
    return Block(none, [], np.empty(0, np.float32), none, problems)
