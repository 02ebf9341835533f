"""The files that a build reads: found, told apart by content, cut into parts. Knows no rows and no codec."""

import glob
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.builds.reader import Columns, Part, Reader
from service.errors import BuildError
from service.files import checksum

LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
PARQUET = (".parquet", ".pq")
IPC = (".arrow", ".feather", ".ipc")


@dataclass(frozen=True)
class Input:
    """One file as it was when it was read first."""

    path: str
    size: int
    modified_ns: int
    digest: str
    """16 hex digits of the content, of the ids beside it and of how it is read: equal digests give equal codes."""
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """With those that may be rejected."""
        return sum(len(part) for part in self.parts)

    def unchanged(self) -> bool:
        """Whether size and time of the file are what they were."""
        try:
            stat = Path(self.path).stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified_ns)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"parts": [list(part) for part in self.parts]}

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

    def reader(self, path: Path) -> Reader:
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
            known = ", ".join((".npy", *LINES, *PARQUET, *IPC))
            raise BuildError(f"{path} ends in none of {known}", field="INPUT")
        try:
            from service.builds.arrow import IpcReader, ParquetReader
        except ImportError:
            raise BuildError(f"{path} needs pyarrow: pip install 'codewell[build]'", field="INPUT") from None
        return (ParquetReader if path.name.endswith(PARQUET) else IpcReader)(path, self.columns)


def found(patterns: Sequence[str]) -> list[Path]:
    """The files that paths, globs and folders of saved datasets name, sorted, each once.

    Raises:
        BuildError: one of them names nothing.
    """
    paths: set[Path] = set()
    for pattern in patterns:
        named = [Path(pattern)] if Path(pattern).exists() else [Path(one) for one in glob.glob(pattern, recursive=True)]  # noqa: PTH207
        if not named:
            raise BuildError(f"{pattern} names no file", field="INPUT")
        for path in named:
            paths.update(_dataset(path) if path.is_dir() else [path])
    return sorted(paths)


def surveyed(
    paths: Iterable[Path], reading: Reading, part_rows: int, known: Iterable[Input], told: Callable[[int], object]
) -> list[Input]:
    """Every file with its digest and parts; files that are as they are `known` are not read again.

    Raises:
        BuildError: a file cannot be read, or there is no reader for it.
    """
    by_path = {one.path: one for one in known}
    beside = [str(reading.columns), "" if reading.ids is None else checksum(reading.ids), str(part_rows)]
    inputs = []
    for path in paths:
        stat = path.stat()
        if (old := by_path.get(str(path))) is not None and old.unchanged():
            inputs.append(old)
            told(stat.st_size)
            continue
        reader = reading.reader(path)
        try:
            content = checksum(path, told)
        except OSError as error:
            raise BuildError(f"{path} cannot be read: {error.strerror}", field="INPUT") from error
        digest = hashlib.sha256(json.dumps([content, *beside]).encode()).hexdigest()[:16]
        inputs.append(Input(str(path), stat.st_size, stat.st_mtime_ns, digest, tuple(reader.parts(part_rows))))
    return inputs


def _dataset(folder: Path) -> list[Path]:
    """The Arrow files of a dataset that `save_to_disk` wrote."""
    if (folder / "dataset_dict.json").exists():
        splits = ", ".join(json.loads((folder / "dataset_dict.json").read_text())["splits"])
        raise BuildError(f"{folder} holds several datasets; name one of its folders: {splits}", field="INPUT")
    if not (folder / "state.json").exists():
        raise BuildError(f"{folder} is a folder, and no saved dataset; name its files: '{folder}/*'", field="INPUT")
    return [folder / one["filename"] for one in json.loads((folder / "state.json").read_text())["_data_files"]]
