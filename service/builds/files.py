"""Files that are whole or not there: written beside, fsynced, renamed; and their checksums. Knows no content."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHUNK = 1024 * 1024
DRAFT = ".draft"


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """A path to write to; what stands there is renamed to `path` once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}{DRAFT}")
    yield draft
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    synced(path.parent)


def synced(folder: Path) -> None:
    """Makes the folder's names last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """Publishes JSON that people read as well."""
    with published(path) as draft:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def checksum(path: Path, told: Callable[[int], object] = lambda _: None) -> str:
    """SHA-256 of a file's bytes in hex; `told` hears of the bytes read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            told(len(chunk))
    return digest.hexdigest()
