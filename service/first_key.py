"""The first API key of a server that nobody has a key for yet, such as a container. Knows no HTTP and no terminal."""

import os
from pathlib import Path

from sqlalchemy.orm import Session

from service.keys import added
from service.rights import Scope
from service.store import keys as stored
from service.store.database import Database


def made_first_key(database: Database, file: Path) -> bool:
    """Makes an admin key and writes it to a file that only its owner reads; whether, for where a key was ever made
    nothing is. Of servers that start together one makes it.

    Raises:
        OSError: the file cannot be written. ValueError: it is there and holds something else.
    """
    with database.migrating() as connection, Session(connection) as session:
        if stored.has_keys(session):
            return False
        _publish(file, added(session, "first", Scope.ADMIN, None, None).token)
        return True


def _publish(file: Path, token: str) -> None:
    """Written before the key is committed, so that none counts that nobody can read; one of a start that was cut off
    in between is replaced.
    """
    if file.exists() and not file.read_text(errors="replace").startswith("cw_"):
        raise ValueError("it holds something else than an API key")
    beside = file.with_name(f"{file.name}.part")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(f"{token}\n")
        out.flush()
        os.fsync(out.fileno())
    beside.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
