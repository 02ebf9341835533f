"""Brings a database's tables to this program's schema. Knows no statement over them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from service.errors import Conflict
from service.store.database import Database

FIRST = "0001"
"""What Codewell made before it had migrations."""


class SchemaTooNew(ValueError):
    """A newer Codewell has changed the tables: this one does not know what they mean."""


def upgrade(database: Database) -> None:
    """Migrates to the newest schema; of many processes that start together one does it, the others wait.

    Raises:
        SchemaTooNew; Unavailable, StorageFull: the database could not be changed.
    """
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    with database.translated_errors(), database.engine.connect() as connection:
        if _revision(connection, scripts) == scripts.get_current_head():
            return  # without a lock: a database that is read-only can still be searched
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        if _revision(connection, scripts) is None and inspect(connection).has_table("collections"):
            command.stamp(config, FIRST)
        command.upgrade(config, "head")


@contextmanager
def made(database: Database) -> Iterator[Connection]:
    """Makes the tables; what the block fills them with is there together with them at its end, or nothing is.

    Raises:
        Conflict: there are tables already; SchemaTooNew.
    """
    config = _config()
    with database.migrating() as connection:
        if _revision(connection, ScriptDirectory.from_config(config)) or inspect(connection).has_table("collections"):
            raise Conflict("the database has tables of Codewell already; name an empty one", field="database_url")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        yield connection


def known(database: Database) -> str | None:
    """The schema of the tables, this program's or an older one; none where there are no tables.

    Raises:
        SchemaTooNew
    """
    with database.translated_errors(), database.engine.connect() as connection:
        return _revision(connection, ScriptDirectory.from_config(_config()))


def newest() -> str | None:
    """The schema of this program."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def checked(database: Database) -> None:
    """Changes nothing.

    Raises:
        ValueError: the tables are not of this program's schema; SchemaTooNew.
    """
    if known(database) != newest():
        raise ValueError("it has no tables of this Codewell; `codewell serve` makes or migrates them")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _revision(connection: Connection, scripts: ScriptDirectory) -> str | None:
    """Where the database stands; none where it has no tables, or those from before there were migrations."""
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"its tables are of schema {revision}, which a newer Codewell made; this one knows {max(known)} and older. "
            "Install that version again, or restore a backup from before it"
        )
    return revision
