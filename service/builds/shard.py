"""The codes of one part of one file, in a file of their own. Knows no other shard and no index."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from models import Codec, Codes
from service.builds.block import accepted
from service.builds.inputs import Input, Reading
from service.builds.reader import Part
from service.errors import BuildError
from service.files import published
from service.index.segment import RowArray


class Task(NamedTuple):
    """A part to encode. Done twice it writes the same bytes: its file is named for all that they depend on."""

    path: Path
    source: Input
    part: Part
    reading: Reading
    block_rows: int


def shard_name(source: Input, part: Part, fingerprint: str) -> str:
    """Names input content, rows and codec."""
    return f"{source.digest}-{part.start}-{part.stop}-{fingerprint}.safetensors"


def encode(task: Task, codec: Codec) -> int:
    """Writes the shard; returns how many rows it has read.

    Raises:
        BuildError: the file changed since it was surveyed.
    """
    content = encoded(task, codec)
    with published(task.path) as draft:
        draft.write_bytes(content)
    return len(task.part)


def encoded(task: Task, codec: Codec) -> bytes:
    """What the shard's file holds.

    Raises:
        BuildError: the input changed since it was surveyed.
    """
    _, source, part, reading, block_rows = task
    reader = reading.reader(source.place)
    codes, rows, ids = [np.empty((0, codec.code_bytes), np.uint8)], [np.empty(0, np.int64)], list[str]()
    rejects: list[str] = []
    for block in reader.blocks(part, block_rows):
        kept = accepted(block, codec.dim, codec.metric)
        codes.append(codec.encode(kept.vectors))
        rows.append(kept.rows)
        ids += kept.ids or []
        place = 1 if reader.unit == "line" else 0
        rejects += [
            json.dumps({"file": source.path, reader.unit: row + place, "reason": reason}, ensure_ascii=False)
            for row, reason in sorted(kept.rejects.items())
        ]
    if not source.unchanged():
        raise BuildError(f"{source.path} changed while it was being read; build again", field="INPUT")
    tensors: dict[str, NDArray[Any]] = {"codes": np.concatenate(codes)}
    all_rows = np.concatenate(rows)
    if not np.array_equal(all_rows, np.arange(part.start, part.stop)):
        tensors["rows"] = all_rows
    if ids:
        names = [one.encode() for one in ids]
        tensors["ids"] = np.frombuffer(b"".join(names), np.uint8)
        tensors["id_ends"] = np.cumsum([len(one) for one in names], dtype=np.int64)
    if rejects:
        tensors["rejects"] = np.frombuffer("".join(line + "\n" for line in rejects).encode(), np.uint8)
    about = {"items": len(all_rows), "rejects": len(rejects), "start": part.start}
    return save(tensors, {"shard": json.dumps(about, sort_keys=True)})


class Shard:
    """Reads what `encode` wrote; only what is asked for is loaded."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="np") as file:
            about = json.loads(file.metadata()["shard"])
            self._names = set(file.keys())
        self.path = path
        self.items: int = about["items"]
        self.rejected: int = about["rejects"]
        self._start: int = about["start"]

    def codes(self) -> Codes:
        """(n, code_bytes) uint8."""
        codes: Codes = self._tensor("codes")
        return codes

    @cached_property
    def rows(self) -> RowArray:
        """(n,) numbers of the rows in their file, ascending."""
        return self._tensor("rows") if "rows" in self._names else np.arange(self._start, self._start + self.items)

    @property
    def named(self) -> bool:
        """Whether ids are anything but row numbers."""
        return "ids" in self._names

    def ids(self) -> list[str]:
        """Of all items."""
        if not self.named:
            return [str(row) for row in self.rows.tolist()]
        ends, content = self._tensor("id_ends").tolist(), self._tensor("ids").tobytes()
        return [content[begin:end].decode() for begin, end in zip([0, *ends], ends, strict=False)]

    def id(self, position: int) -> str:
        """Of one item; reads nothing else, and opens the file the first time only."""
        mapped = self._mapped
        if not self.named:
            row = mapped["rows"][position : position + 1][0] if "rows" in mapped else self._start + position
            return str(row)
        ends = mapped["id_ends"]
        begin, end = (0, *ends[:1].tolist()) if position == 0 else ends[position - 1 : position + 1].tolist()
        return bytes(mapped["ids"][begin:end].tobytes()).decode()

    def hold(self) -> None:
        """Maps what ids are read of, so that they can be told when the file is gone."""
        _ = self._mapped

    @cached_property
    def _mapped(self) -> dict[str, Any]:
        """To be sliced; threads may read them side by side."""
        file: Any = safe_open(self.path, framework="np")
        return {name: file.get_slice(name) for name in ("rows", "ids", "id_ends") if name in self._names}

    def rejects(self) -> bytes:
        """NDJSON lines."""
        return bytes(self._tensor("rejects").tobytes()) if "rejects" in self._names else b""

    def _tensor(self, name: str) -> NDArray[Any]:
        with safe_open(self.path, framework="np") as file:
            tensor: NDArray[Any] = file.get_tensor(name)
            return tensor
