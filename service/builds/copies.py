"""Local copies of what cannot be read where it is. Knows no format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from service.builds.remote import RemoteFile
from service.files import checksum, published


class Copy(NamedTuple):
    """A local file that holds what is elsewhere: a build's own, and nobody changes it."""

    name: str
    """What it is a copy of, as anyone may see it."""
    path: Path
    size: int
    content: str
    """Digest of what it holds."""


def copied(file: RemoteFile, folder: Path, number: int, told: Callable[[int], object]) -> Copy:
    """The whole file, in a folder of its own.

    Raises:
        BuildError
    """
    path = folder / str(number) / file.name
    with published(path) as draft:
        file.copy_to(draft, told)
    return Copy(str(file), path, path.stat().st_size, checksum(path))
