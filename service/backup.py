"""A copy of everything, made while servers go on, and put back into an empty place. Knows no view and no HTTP.

    <folder>/codewell.db    manifest.json

The copy is a SQLite file wherever it came from, so that a backup of PostgreSQL can be put back as SQLite and the other
way round.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from sqlalchemy import func, insert, select, text

from service.errors import Conflict, SnapshotRefused
from service.files import damaged, described, locked, published, published_folder
from service.store import schema
from service.store.database import Database
from service.store.tables import Base, CollectionRow

FORMAT = 1
"""Of the folder; another one is refused."""
NAME, FILE = "manifest.json", "codewell.db"
SIDE_FILES = ("", "-wal", "-shm", "-journal")
"""What SQLite may leave of a database, after its name."""
PAGE = 2_000
"""Rows in memory at once."""

T = TypeVar("T")


def back_up(database: Database, folder: Path) -> dict[str, Any]:
    """Copies the database as it is in one moment to a new folder, and returns its manifest.

    Raises:
        Conflict: the folder is not empty; SnapshotRefused: the copy cannot be read, as the database is damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is not empty; name a folder that is, or is not there yet", field="folder")
    with published_folder(folder) as draft:
        began = time.time()
        if database.is_sqlite:
            _copy_file(database, draft / FILE)
        else:
            _opened(draft / FILE, lambda copy: _copy_rows(database, copy))
        manifest = {
            "format": FORMAT,
            "codewell": version("codewell"),
            "created_at": began,
            "collections": _opened(draft / FILE, _collections),
            "files": described(draft, [FILE]),
        }
        (draft / NAME).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def restore_file(folder: Path, path: Path, lock: Path) -> dict[str, Any]:
    """Puts a backup to `path` as a SQLite database, where there must be none, and returns the manifest; `lock` is what
    a running server holds.

    Raises:
        SnapshotRefused: the backup is damaged; SchemaTooNew; Conflict: there is a database or a server.
    """
    manifest = _manifest(folder)
    for side in SIDE_FILES:
        if (there := path.with_name(path.name + side)).exists():
            raise Conflict(f"{there} is there; a backup is put back where there is no database", field="data_dir")
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = locked(lock, wait=False)
    if held is None:
        raise Conflict(f"a server runs over {lock.parent.parent}; stop it", field="data_dir")
    with held, published(path) as draft:
        try:
            _copy_whole(folder, manifest, draft)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    return manifest


def restore_rows(folder: Path, database: Database, scratch: Path) -> dict[str, Any]:
    """Puts a backup into a PostgreSQL database that has no tables of ours: all of it or nothing; returns the manifest.

    `scratch` is a folder that has room for a copy of the backup, which may be of an older schema.

    Raises:
        SnapshotRefused: the backup is damaged; SchemaTooNew; Conflict: there are tables.
    """
    manifest = _manifest(folder)
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="restore-") as place:
        copy = Path(place) / FILE
        _copy_whole(folder, manifest, copy)
        _opened(copy, schema.upgrade)
        _opened(copy, lambda source: _copy_rows(source, database))
    return manifest


def _copy_whole(folder: Path, manifest: dict[str, Any], path: Path) -> None:
    """The backup's file to `path`, once it is the one that was written and of a schema that this program knows."""
    shutil.copyfile(folder / FILE, path)
    if damaged(path.parent, {path.name: manifest["files"][FILE]}):
        raise SnapshotRefused(f"{folder / FILE} is not the file that was written")
    _opened(path, schema.known)


def _copy_file(database: Database, path: Path) -> None:
    """In one step, so that what writers commit meanwhile is not in it."""
    with database.translated_errors(), database.engine.connect() as connection, closing(sqlite3.connect(path)) as copy:
        source = connection.connection.driver_connection
        if not isinstance(source, sqlite3.Connection):
            raise TypeError(f"{source} is no connection to SQLite")
        source.backup(copy)
        if (problem := copy.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise SnapshotRefused(f"the database is damaged: {problem}")


def _copy_rows(source: Database, target: Database) -> None:
    """Every row of every table as of one moment, into a database without tables."""
    with source.reading() as session, schema.made(target) as connection:
        for table in Base.metadata.sorted_tables:
            found = session.execute(select(table).execution_options(yield_per=PAGE))
            for rows in found.mappings().partitions():
                connection.execute(insert(table), [dict(row) for row in rows])
            if table.autoincrement_column is not None and not target.is_sqlite:  # which has counted along
                counter = text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
                last = connection.scalar(select(func.max(table.autoincrement_column)))
                names = {"table": table.name, "column": table.autoincrement_column.name}
                connection.execute(counter, names | {"last": last})


def _collections(database: Database) -> dict[str, dict[str, int]]:
    with database.reading() as session:
        rows = session.execute(select(CollectionRow.name, CollectionRow.item_count, CollectionRow.seq))
        return {name: {"items": items, "seq": seq} for name, items, seq in rows}


def _opened(path: Path, asked: Callable[[Database], T]) -> T:
    database = Database(f"sqlite:///{path.absolute()}")
    try:
        return asked(database)
    finally:
        database.close()


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise SnapshotRefused(f"{folder} is of format {manifest['format']}; this program reads {FORMAT}")
        manifest["files"][FILE]["sha256"], manifest["collections"].items()
    except FileNotFoundError:
        raise SnapshotRefused(f"{folder} is no backup: it has no {NAME}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotRefused(f"{folder / NAME} cannot be read: {error}") from error
    return manifest
