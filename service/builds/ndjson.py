"""Reads NDJSON, an item a line as POST /ingest takes them. Knows no other format."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from service.builds.block import Block
from service.builds.reader import Columns, File, Part, Reader
from service.given import given_vector
from service.index.segment import RowArray

BLOCK_BYTES = 64 * 1024 * 1024
"""A block ends when its lines have this many bytes, however few they are."""


class NdjsonReader(Reader):
    """Lines with an id and a vector; other fields are ignored, and so are blank lines. Also with gzip."""

    unit: ClassVar[str] = "line"

    def __init__(self, path: File, columns: Columns) -> None:
        self.path = path
        self._columns = columns

    def parts(self, size: int) -> list[Part]:
        """Counts lines; a file with gzip cannot be entered in its middle, so that it is one part."""
        lines, offset, parts, begun = 0, 0, [], Part(0, 0)
        try:
            with self._opened() as file:
                for line in file:
                    if lines and lines % size == 0 and self.path.suffix != ".gz":
                        parts.append(Part(begun.start, lines, begun.offset))
                        begun = Part(lines, lines, offset)
                    lines, offset = lines + 1, offset + len(line)
        except (OSError, EOFError, zlib.error):
            lines += 1  # where it breaks off is a line with a problem
        return [*parts, Part(begun.start, lines, begun.offset)]

    def blocks(self, part: Part, size: int, wanted: RowArray | None = None) -> Iterator[Block]:
        """Parses wanted lines only; the others are passed over."""
        chosen = None if wanted is None else set(wanted.tolist())
        batch = _Batch()
        number = part.start
        try:
            with self._opened() as file:
                file.seek(part.offset)
                for number in range(part.start, part.stop):
                    line = file.readline()
                    if (chosen is None or number in chosen) and line.strip():
                        batch.add(number, *self._item(line), len(line))
                    if len(batch.rows) >= size or batch.size >= BLOCK_BYTES:
                        yield batch.block()
                        batch = _Batch()
        except (OSError, EOFError, zlib.error) as error:
            batch.add(number, None, None, f"the file cannot be read on from here: {error}", 0)
        if batch.rows:
            yield batch.block()

    def _item(self, line: bytes) -> tuple[object, Any, str]:
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            return None, None, f"not JSON: {error}"
        if not isinstance(item, dict):
            return None, None, "not a JSON object"
        vector = item.get(self._columns.vector)
        if vector is None:
            missing = "; texts are not encoded by a build" if "text" in item else ""
            return item.get(self._columns.id), None, f"{self._columns.vector}: missing{missing}"
        try:
            return item.get(self._columns.id), given_vector(vector), ""
        except ValueError as error:
            return item.get(self._columns.id), None, f"{self._columns.vector}: {error}"

    def _opened(self) -> BinaryIO | gzip.GzipFile:
        if self.path.suffix != ".gz":
            return self.path.open("rb")
        return gzip.open(self.path if isinstance(self.path, Path) else self.path.open("rb"), "rb")


class _Batch:
    """Lines on their way to being a block."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.size = 0
        self._ids: list[object] = []
        self._vectors: list[Any] = []
        self._problems: dict[int, str] = {}

    def add(self, row: int, item_id: object, vector: Any, problem: str, size: int) -> None:
        self.rows.append(row)
        self._ids.append(item_id)
        self._vectors.append(np.empty(0, np.float32) if vector is None else vector)
        self.size += size
        if problem:
            self._problems[row] = problem

    def block(self) -> Block:
        lengths = np.array([len(vector) for vector in self._vectors], np.int64)
        return Block(np.array(self.rows, np.int64), self._ids, np.concatenate(self._vectors), lengths, self._problems)
