"""What every file format can do: say its parts, read their rows in blocks. Knows no format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from service.builds.block import Block
from service.builds.remote import RemoteFile
from service.index.segment import RowArray

File = Path | RemoteFile
"""What readers open."""


@dataclass(frozen=True)
class Columns:
    """What the fields of a line and the columns of a table are called; all others are ignored."""

    id: str = "id"
    vector: str = "vector"


class Part(NamedTuple):
    """Rows of one file that are encoded together."""

    start: int
    stop: int
    offset: int = 0
    """Byte at which the first of them begins, where a format needs it."""

    def __len__(self) -> int:
        return self.stop - self.start


class Reader(ABC):
    """One file. Opening it reads no more than what says how it is made."""

    unit: ClassVar[str] = "row"
    """What a reject calls its place: a row, from 0, or a line, from 1."""
    path: File

    @abstractmethod
    def parts(self, size: int) -> list[Part]:
        """All rows, cut where the format can be entered: about `size` in each part, and never none.

        A file that cannot be read at all has one part without rows, whose block says why.
        """

    @abstractmethod
    def blocks(self, part: Part, size: int, wanted: RowArray | None = None) -> Iterator[Block]:
        """The part's rows, at most `size` in memory at once; with `wanted` (ascending row numbers) only those.

        What cannot be read is a problem in the block in which it is met: nothing is raised for it.
        """
