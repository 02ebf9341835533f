"""Where a process leaves snapshots of its views, and finds those it may start from. Knows no search and no HTTP.

    <folder>/<collection's id>/<generation>-<seq>[-buckets]/      as index/snapshot.py writes it

The database has the digest of each: so a snapshot of another database, or of a state that this one was put back
before, is unknown to it.
"""

import logging
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.orm import Session

from service.errors import SnapshotRefused
from service.files import DRAFT, locked, published_folder
from service.index import snapshot
from service.index.view import View
from service.store.database import Database
from service.store.snapshots import add_snapshot, forget_snapshots, known_snapshots
from service.store.tables import CollectionRow, GenerationRow

log = logging.getLogger(__name__)

REFUSED = ".refused"
_NAME = re.compile(rf"(\d+)-(\d+)({snapshot.HASHED})?")


class Kept(NamedTuple):
    """A folder by what its name says."""

    folder: Path
    generation_id: int
    seq: int
    hashed: bool
    """Whether it has hash tables."""


class Published(NamedTuple):
    """What the database says that a snapshot must fit."""

    generation_id: int
    fingerprint: str
    floor_seq: int
    seq: int
    known: set[str]

    @classmethod
    def of(cls, session: Session, row: CollectionRow) -> "Published | None":
        """None where the collection has no codec yet."""
        generation = session.get(GenerationRow, row.generation_id) if row.generation_id is not None else None
        if generation is None:
            return None
        known = known_snapshots(session, row.id)
        return cls(generation.id, generation.fingerprint, row.floor_seq, row.seq, known)

    def checked(self, kept: Kept) -> View:
        """The view in a folder.

        Raises:
            SnapshotRefused: it is damaged, or does not fit.
        """
        manifest = snapshot.manifest_of(kept.folder)
        if manifest.name != kept.folder.name:
            raise SnapshotRefused(f"its {snapshot.NAME} is that of {manifest.name}")
        if manifest.fingerprint != self.fingerprint:
            raise SnapshotRefused(f"it is of the codec {manifest.fingerprint}, published is {self.fingerprint}")
        if manifest.applied_seq > self.seq:
            raise SnapshotRefused(
                f"it is of seq {manifest.applied_seq}, and the collection has come to {self.seq} only"
            )
        if manifest.applied_seq < self.floor_seq:
            raise SnapshotRefused(f"it is of seq {manifest.applied_seq}, and the log begins after {self.floor_seq}")
        if snapshot.digest(kept.folder) not in self.known:
            raise SnapshotRefused(
                "this database does not know it: it was changed, or made of another database or state"
            )
        return snapshot.opened(kept.folder, manifest)


class Snapshots:
    """Of all collections, in one folder."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database

    def newest(self, collection_id: int) -> View | None:
        """The newest one that fits what is published; those that do not are named in the log and set aside."""
        listed = self.listed(collection_id)  # before the database is asked: what comes later it need not know
        with self._database.reading() as session:
            row = session.get(CollectionRow, collection_id)
            published = Published.of(session, row) if row is not None else None
        for kept in listed:
            if published is None or kept.generation_id != published.generation_id:
                continue
            try:
                return published.checked(kept)
            except SnapshotRefused as refused:
                if kept.folder.exists():  # else another process has removed it, or set it aside
                    log.warning("the snapshot %s is refused and set aside: %s", kept.folder, refused)
                    _set_aside(kept.folder)
        return None

    def listed(self, collection_id: int) -> list[Kept]:
        """What there is, the newest first."""
        home = self.folder / str(collection_id)
        names = ((folder, _NAME.fullmatch(folder.name)) for folder in (home.iterdir() if home.is_dir() else ()))
        found = [Kept(folder, int(name[1]), int(name[2]), name[3] is not None) for folder, name in names if name]
        return sorted(found, key=lambda kept: (kept.seq, kept.hashed), reverse=True)

    def write(self, collection_id: int, view: View) -> bool:
        """Publishes the view's snapshot and removes older ones; false where another process is at it.

        Raises:
            OSError, RuntimeError: the disk is full or cannot be written; what was there stays.
        """
        home = self.folder / str(collection_id)
        home.mkdir(parents=True, exist_ok=True)
        lock = locked(home / "lock", wait=False)
        if lock is None:
            return False
        with lock:
            hashed = view.hashed  # a search may build its tables meanwhile
            folder = home / snapshot.name(view.generation_id, view.applied_seq, hashed=hashed)
            if not folder.exists():
                with published_folder(folder) as draft:
                    snapshot.write(view, draft, hashed=hashed)
                    with self._database.writing() as session:
                        add_snapshot(session, collection_id, snapshot.digest(draft))
            self._remove_all_but(folder, collection_id)
        return True

    def remove_without(self, collection_ids: set[int]) -> None:
        """Removes what is of collections that are no more."""
        for home in self.folder.iterdir() if self.folder.is_dir() else ():
            if home.name.isdecimal() and int(home.name) not in collection_ids:
                shutil.rmtree(home, ignore_errors=True)

    def _remove_all_but(self, kept: Path, collection_id: int) -> None:
        """A process that still maps a file keeps its pages; what a killed one left half done goes as well."""
        old = [
            folder
            for folder in kept.parent.iterdir()
            if folder != kept and (_NAME.fullmatch(folder.name) or folder.name.endswith(DRAFT))
        ]
        digests = [snapshot.digest(folder) for folder in old if (folder / snapshot.NAME).is_file()]
        for folder in old:
            going = folder if folder.name.endswith(DRAFT) else folder.rename(folder.with_name(folder.name + DRAFT))
            shutil.rmtree(going, ignore_errors=True)  # under another name, so that nobody reads what is half gone
        if digests:
            with self._database.writing() as session:
                forget_snapshots(session, collection_id, digests)


def _set_aside(folder: Path) -> None:
    """Under another name, for whoever wants to know why; of earlier ones nothing is kept."""
    for earlier in folder.parent.glob(f"*{REFUSED}"):
        shutil.rmtree(earlier, ignore_errors=True)
    try:
        folder.rename(folder.with_name(folder.name + REFUSED))
    except OSError as error:
        log.warning("the snapshot %s cannot be set aside: %s", folder, error.strerror)
