"""A view in a folder: codec, rows, index and a manifest of what they are. Knows no database, no log and no HTTP.

codec.safetensors    rows.npy, (n,) row ids    index and others, what the segment's scan wrote    manifest.json
bucket-slots.npy, bucket-begins.npy    the tables of its hash buckets, where somebody has searched by them
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import Codes, load_codec
from service.errors import SnapshotRefused
from service.files import damaged, described
from service.index.buckets import BucketIndex, bits_for
from service.index.segment import Segment, scan_of
from service.index.tables import FILES as TABLES
from service.index.tables import HashTables
from service.index.view import View

FORMAT, READ = 4, (3, 4)
"""Of the folder, what files hold and how bucket keys are made: what is written, and what is not refused. In 3 residual
codes stood in 256 lists, whatever their number."""
NAME = "manifest.json"
HASHED = "-buckets"
"""Ends the name of a folder with hash tables."""
BLOCK = 65_536
"""Codes copied at once."""


@dataclass(frozen=True)
class Manifest:
    """A folder is what its manifest says, or it is refused."""

    generation_id: int
    fingerprint: str
    applied_seq: int
    files: dict[str, dict[str, Any]]
    """Bytes and SHA-256 of every other file."""
    format: int = FORMAT

    @property
    def name(self) -> str:
        """Of the folder."""
        return name(self.generation_id, self.applied_seq, hashed=self.hashed)

    @property
    def hashed(self) -> bool:
        """Whether it has hash tables."""
        return set(TABLES) <= set(self.files)


def name(generation_id: int | None, seq: int, *, hashed: bool) -> str:
    """Of a folder: one with tables may replace one without that is of the same state."""
    return f"{generation_id}-{seq}{HASHED if hashed else ''}"


def write(view: View, folder: Path, *, hashed: bool = False) -> None:
    """Fills the folder with the view's live rows, and with their hash tables where the view is `hashed` and it is told;
    it must be of a trained codec.
    """
    if view.generation_id is None:
        raise ValueError("a view of vectors has no codec to write")
    (folder / "codec.safetensors").write_bytes(view.codec.to_bytes())
    np.save(folder / "rows.npy", view.live_rows())
    scan = scan_of(view.codec)
    scan.write(view.codec, _live_codes(view), folder)
    if hashed:
        _tables(view, folder).write(folder)
    files = described(folder, ["codec.safetensors", "rows.npy", *scan.files, *(TABLES if hashed else ())])
    manifest = Manifest(view.generation_id, view.codec.fingerprint, view.applied_seq, files)
    (folder / NAME).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")


def digest(folder: Path) -> str:
    """SHA-256 of the manifest in hex, which stands for the whole folder."""
    try:
        return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
    except OSError as error:
        raise SnapshotRefused(f"its {NAME} cannot be read: {error.strerror}") from error


def manifest_of(folder: Path) -> Manifest:
    """The folder's manifest.

    Raises:
        SnapshotRefused: there is none, or none that this program reads.
    """
    try:
        given = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if given["format"] not in READ:
            raise SnapshotRefused(f"it is of format {given['format']}; this program reads {READ[0]} to {FORMAT}")
        return Manifest(**given | {"files": dict(given["files"])})
    except FileNotFoundError:
        raise SnapshotRefused(f"its {NAME} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotRefused(f"its {NAME} cannot be read: {error}") from error


def opened(folder: Path, manifest: Manifest) -> View:
    """The view, its codes mapped from their file; every file is read once to compare it with its checksum.

    Raises:
        SnapshotRefused: a file is missing or not the one that was written; the message names it.
    """
    try:
        if (name := damaged(folder, manifest.files)) is not None:
            raise SnapshotRefused(f"its {name} is not the file that was written")
        codec = load_codec((folder / "codec.safetensors").read_bytes())
        rows = np.load(folder / "rows.npy", mmap_mode="r")
        scan = scan_of(codec).mapped(codec, folder)
        base = Segment(rows, scan, folder, BucketIndex.mapped(scan, folder) if manifest.hashed else None)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SnapshotRefused(f"it cannot be read: {error}") from error
    return View.over(manifest.generation_id, manifest.applied_seq, base)


def _tables(view: View, folder: Path) -> HashTables:
    """Of the codes as they stand in the index that was just written."""
    scan = scan_of(view.codec).mapped(view.codec, folder)  # it holds its codes
    keys = view.base.buckets.carried(view.base.live_slots(), scan.codes)
    if keys is None:
        raise ValueError("nobody has searched by the buckets of this view")
    return HashTables.of(keys, view.codec.bucket_count(bits_for(len(scan))))


def _live_codes(view: View) -> Iterator[Codes]:
    for segment in (view.base, view.tail):
        slots = segment.live_slots()
        for start in range(0, len(slots), BLOCK):
            yield segment.codes[slots[start : start + BLOCK]]
