"""Reads a file of items and sends it batch by batch. Knows formats and outcomes, and nothing of terminals."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.client import Client, ServerRefused
from service.parquet import ItemTable, UnreadableTable

LINE_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
SUFFIXES = (*LINE_SUFFIXES, ".npy", ".parquet")
BATCH_BYTES = 16 * 1024 * 1024
"""A batch is sent when its lines have this many bytes together, however few they are."""
REJECTIONS_KEPT = 10
"""Rejections whose reason is kept."""


class UnreadableFile(Exception):
    """A file is damaged or not what its name says; the message names it."""


class Line(NamedTuple):
    """A line of the file: an item to send, or why there is none."""

    number: int
    """Of the line, from 1; of a matrix's or table's row, from 0."""
    item: dict[str, Any] | None
    problem: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Fields:
    """What a line's fields are called; others are sent as they are."""

    id: str = "id"
    text: str = "text"
    vector: str = "vector"

    def renamed(self, line: dict[str, Any]) -> dict[str, Any]:
        """The line with the API's names."""
        named = {"id": self.id, "text": self.text, "vector": self.vector}
        taken = {name: line[given] for name, given in named.items() if given in line}
        rest = {name: value for name, value in line.items() if name not in named and name not in named.values()}
        return taken | rest


class Source:
    """The items of one file, NDJSON (also with gzip), Parquet or an NPY matrix; `vectors` is a matrix beside lines.

    Everything is read through once to count it, so a damaged file is found before anything is sent.
    """

    def __init__(self, path: Path, vectors: Path | None = None, fields: Fields | None = None) -> None:
        self._path = path
        self._fields = fields or Fields()
        self.unit = "line"
        self._table: ItemTable | None = None
        if path.name.endswith(".parquet"):
            self.unit = "row"
            with _named_problem():
                self._table = ItemTable(path, asdict(self._fields))
            self.total = self._table.total
            return
        if path.name.endswith(".npy"):
            self.unit = "row"
            self._matrix: NDArray[Any] | None = matrix(path)
            self.total = len(self._matrix)
            return
        self.total = sum(1 for _ in self._raw())
        self._matrix = None if vectors is None else matrix(vectors)
        if self._matrix is not None and len(self._matrix) != self.total:
            raise UnreadableFile(f"{vectors} has {len(self._matrix)} rows, but {path} has {self.total} lines")

    def lines(self) -> Iterator[Line]:
        """Every item in the file's order."""
        if self._table is not None:
            with _named_problem():
                for row, given in enumerate(self._table.rows()):
                    yield _line(row, self._fields.renamed(given))
            return
        if self.unit == "row" and self._matrix is not None:
            for row, vector in enumerate(self._matrix):
                yield Line(row, {"id": str(row), "vector": encoded(vector)}, "", 4 * len(vector))
            return
        for position, (number, raw) in enumerate(self._raw()):
            try:
                given = json.loads(raw)
            except (ValueError, RecursionError) as error:
                yield Line(number, None, f"not JSON: {error}", len(raw))
                continue
            if not isinstance(given, dict):
                yield Line(number, None, "not a JSON object", len(raw))
                continue
            item = self._fields.renamed(given)
            if self._matrix is not None:
                item["vector"] = encoded(self._matrix[position])
            yield Line(number, item, "", len(raw))

    def _raw(self) -> Iterator[tuple[int, bytes]]:
        """Lines that are not blank, with their number."""
        try:
            with _opened(self._path) as lines:
                for number, raw in enumerate(lines, 1):
                    if raw.strip():
                        yield number, raw
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFile(f"{self._path} cannot be read to its end: {error}") from error


@dataclass
class Tally:
    """What became of the items so far."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("inserted", "updated", "unchanged"), 0))
    rejected: int = 0
    rejections: list[tuple[int, str]] = field(default_factory=list)
    """The number and the reason of the first ones."""
    shortened: int = 0
    """Texts that the encoder read a part of."""

    @property
    def kept(self) -> int:
        """Items that are committed."""
        return sum(self.counts.values())

    def reject(self, number: int, reason: str) -> None:
        """Counts a line that is not kept."""
        self.rejected += 1
        if len(self.rejections) < REJECTIONS_KEPT:
            self.rejections.append((number, reason))


def upload(
    client: Client, collection: str, source: Source, batch: int, tally: Tally, progress: Callable[[int], None]
) -> None:
    """Sends everything, counting into `tally` and telling `progress` how many lines are done.

    Raises:
        ClientError, UnreadableFile: what `tally` counts as kept by then is committed.
    """
    for lines in batches(source.lines(), batch):
        for line in lines:
            if line.item is None:
                tally.reject(line.number, line.problem)
        _send(client, collection, [line for line in lines if line.item is not None], tally)
        progress(tally.kept + tally.rejected)


def batches(lines: Iterator[Line], most: int) -> Iterator[list[Line]]:
    """At most `most` lines each; an id comes once in a batch, so that of two lines with one id the later one holds."""
    ready: list[Line] = []
    ids: set[str] = set()
    size = 0
    for line in lines:
        item_id = None if line.item is None or line.item.get("id") is None else str(line.item["id"])
        if len(ready) >= most or size + line.size > BATCH_BYTES or item_id in ids:
            if ready:
                yield ready
            ready, ids, size = [], set(), 0
        ready.append(line)
        size += line.size
        if item_id is not None:
            ids.add(item_id)
    if ready:
        yield ready


def _send(client: Client, collection: str, lines: list[Line], tally: Tally) -> None:
    if not lines:
        return
    try:
        answer = client.ingest(collection, [line.item for line in lines if line.item is not None])
    except ServerRefused as refused:
        errors = refused.members.get("errors")
        if refused.status == 413 and len(lines) > 1:
            middle = len(lines) // 2
            _send(client, collection, lines[:middle], tally)
            _send(client, collection, lines[middle:], tally)
        elif refused.status == 422 and errors and all("position" in error for error in errors):
            for error in errors:  # not one item of the batch could be kept
                tally.reject(lines[error["position"]].number, error["detail"])
        elif refused.status == 413:
            tally.reject(lines[0].number, refused.detail)
        else:
            raise
        return
    for line, result in zip(lines, answer["results"], strict=True):
        if result["status"] == "rejected":
            tally.reject(line.number, result["error"]["detail"])
        else:
            tally.counts[result["status"]] += 1
            tally.shortened += result.get("warning") is not None


def matrix(path: Path) -> NDArray[Any]:
    """The (n, D) numbers of an NPY file, as a memory map."""
    try:
        numbers = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = "it is no NPY file" if "pickle" in str(error) else str(error)
        raise UnreadableFile(f"{path} cannot be read as an NPY matrix: {reason}") from error
    if not isinstance(numbers, np.ndarray) or numbers.ndim != 2 or numbers.dtype.kind != "f":
        held = f"{numbers.dtype} of shape {numbers.shape}" if isinstance(numbers, np.ndarray) else "an archive"
        raise UnreadableFile(f"{path} holds {held}; wanted are floats of shape (items, dimension)")
    return numbers


def encoded(vector: NDArray[Any]) -> str:
    """(D,) floats as the API takes them: base64 of little-endian float32."""
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which the server refuses by name
        return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def _line(row: int, item: dict[str, Any]) -> Line:
    """A row of a table, whose metadata are JSON as text."""
    if "vector" in item:
        item["vector"] = encoded(item["vector"])
    size = sum(len(str(value)) for value in item.values())
    if "metadata" in item:
        try:
            item["metadata"] = json.loads(item["metadata"])
        except (ValueError, RecursionError) as error:
            return Line(row, None, f"metadata: not JSON: {error}", size)
    return Line(row, item, "", size)


@contextmanager
def _named_problem() -> Iterator[None]:
    try:
        yield
    except UnreadableTable as error:
        raise UnreadableFile(str(error)) from error


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
