"""Files and folders that are whole or not there: written beside, fsynced, renamed; checksums and locks of them.

Knows no content.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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


@contextmanager
def published_folder(folder: Path) -> Iterator[Path]:
    """A folder to write files to; it is renamed to `folder`, which must not exist or be empty, once the block has ended
    well, and is removed where it has not.
    """
    draft = folder.with_name(f"{folder.name}.{os.getpid()}{DRAFT}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        synced(draft)
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    synced(folder.parent)


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


def described(
    folder: Path, names: list[str], known: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Bytes and checksum of each file; those already `known` under the same name and size are not read again."""
    files = {}
    for name in sorted(names):
        size = (folder / name).stat().st_size
        old = (known or {}).get(name)
        files[name] = old if old and old["bytes"] == size else {"bytes": size, "sha256": checksum(folder / name)}
    return files


def damaged(folder: Path, files: Mapping[str, dict[str, Any]], *, thoroughly: bool = True) -> str | None:
    """The first of the described files that is not what was written: by size or, thoroughly, by checksum."""
    for name, told in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != told["bytes"]:
            return name
        if thoroughly and checksum(path) != told["sha256"]:
            return name
    return None


def locked(path: Path, *, wait: bool = True) -> IO[str] | None:
    """The open file under its lock, which ends with the process or with the file; none where another holds it."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    return file
