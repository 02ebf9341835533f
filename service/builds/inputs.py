"""The files that a build reads: told apart by content, cut into parts. Knows no rows and no codec."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from service.builds.address import is_url
from service.builds.copies import Copy
from service.builds.reader import Columns, File, Part, Reader
from service.builds.remote import RemoteFile
from service.errors import BuildError
from service.files import checksum

LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
PARQUET = (".parquet", ".pq")
IPC = (".arrow", ".feather", ".ipc")
SUFFIXES = (".npy", *LINES, *PARQUET, *IPC)


@dataclass(frozen=True)
class Input:
    """One file as it was when it was read first."""

    path: str
    size: int
    modified_ns: int
    digest: str
    """16 hex digits of the content, of the ids beside it and of how it is read: equal digests give equal codes."""
    parts: tuple[Part, ...]
    version: str = ""
    """What the file system tells of a remote file's content."""
    at: str = field(default="", compare=False, repr=False)
    """Where it is read, if not at `path`: a URL with what `path` leaves out of it, or a copy. Never written down."""

    @property
    def place(self) -> File:
        """What a reader opens."""
        at = self.at or self.path
        return RemoteFile(at) if is_url(at) else Path(at)

    @property
    def rows(self) -> int:
        """With those that may be rejected."""
        return sum(len(part) for part in self.parts)

    def unchanged(self) -> bool:
        """Whether size and time of the file, or what a file system tells of it, are what they were.

        Raises:
            BuildError: a remote file is not there, or cannot be asked for.
        """
        place = self.place
        if isinstance(place, RemoteFile):
            return place.told() == (self.size, self.version)
        if self.at:  # a copy, which is the build's own: another machine may not have it
            return place.exists()
        try:
            stat = place.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified_ns)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        told = asdict(self) | {"parts": [list(part) for part in self.parts]}
        return {name: value for name, value in told.items() if name != "at" and (value or name != "version")}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Input":
        """What `to_dict` made."""
        return cls(**given | {"parts": tuple(Part(*part) for part in given["parts"])})


@dataclass(frozen=True)
class Reading:
    """How files are read; a worker makes the same readers of it."""

    columns: Columns = field(default_factory=Columns)
    ids: Path | None = None
    """A line for each row of the one NPY file."""

    def reader(self, path: File) -> Reader:
        """The reader for the file's suffix.

        Raises:
            BuildError: no such format, or pyarrow is missing.
        """
        if path.name.endswith(".npy"):
            from service.builds.npy import NpyReader

            return NpyReader(path, self.ids)
        if path.name.endswith(LINES):
            from service.builds.ndjson import NdjsonReader

            return NdjsonReader(path, self.columns)
        if not path.name.endswith(PARQUET + IPC):
            raise BuildError(f"{path} ends in none of {', '.join(SUFFIXES)}", field="INPUT")
        try:
            from service.builds.arrow import IpcReader, ParquetReader
        except ImportError:
            raise BuildError(f"{path} needs pyarrow: pip install 'codewell[build]'", field="INPUT") from None
        return (ParquetReader if path.name.endswith(PARQUET) else IpcReader)(path, self.columns)


def surveyed(
    files: Sequence[Path | RemoteFile | Copy],
    reading: Reading,
    part_rows: int,
    known: Iterable[Input],
    told: Callable[[int], object],
) -> list[Input]:
    """Every file with its digest and parts; files that are as they are `known` are not read again.

    Raises:
        BuildError: a file cannot be read, there is no reader for it, or two have one name.
    """
    by_path = {one.path: one for one in known}
    beside = [str(reading.columns), "" if reading.ids is None else checksum(reading.ids), str(part_rows)]
    inputs = list[Input]()
    for file in files:
        if isinstance(file, Path):
            inputs.append(_local(file, reading, part_rows, by_path.get(str(file)), beside, told))
        elif isinstance(file, RemoteFile):
            inputs.append(_remote(file, reading, part_rows, by_path.get(str(file)), beside, told))
        else:
            parts = tuple(reading.reader(file.path).parts(part_rows))
            inputs.append(Input(file.name, file.size, 0, _digest(file.content, *beside), parts, at=str(file.path)))
    return inputs


def _local(
    path: Path, reading: Reading, part_rows: int, old: Input | None, beside: list[str], told: Callable[[int], object]
) -> Input:
    stat = path.stat()
    if old is not None and old.unchanged():
        told(stat.st_size)
        return old
    reader = reading.reader(path)
    try:
        content = checksum(path, told)
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}", field="INPUT") from error
    digest = _digest(content, *beside)
    return Input(str(path), stat.st_size, stat.st_mtime_ns, digest, tuple(reader.parts(part_rows)))


def _remote(
    file: RemoteFile,
    reading: Reading,
    part_rows: int,
    old: Input | None,
    beside: list[str],
    told: Callable[[int], object],
) -> Input:
    """The digest has the file's name, for what a file system tells of a file, it may tell of another as well."""
    size, version = file.told()
    digest = _digest(str(file), size, version, *beside)
    told(size or 0)
    if old is not None and old.digest == digest:
        return replace(old, at=file.url)
    parts = tuple(reading.reader(file).parts(part_rows))
    return Input(str(file), size or 0, 0, digest, parts, version, file.url)


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
