"""Migrations over real databases: nothing lost, nothing left out, nothing newer touched."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from service.store import schema
from service.store.database import Database
from service.store.tables import Base

OLD_JOB = (
    "INSERT INTO jobs (id, collection_id, kind, parameters, state, cancel_requested, starts, progress, message, "
    "created_at) VALUES ('j', 1, 'train', '{}', 'running', false, 1, 0.5, '', 1)"
)


def made_by_0_1(database: Database, *, stamped: bool) -> None:
    """The tables, and some rows, as the first Codewell made them."""
    config = Config()
    config.set_main_option("script_location", "service/store/migrations")
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, schema.FIRST)
        connection.execute(
            text(
                "INSERT INTO collections (name, dimension, metric, codec, seq, item_count, created_at) "
                "VALUES ('old', 2, 'l2', '{}', 7, 0, 1)"
            )
        )
        connection.execute(text(OLD_JOB))
        if not stamped:
            connection.execute(text("DROP TABLE alembic_version"))


@pytest.mark.parametrize("stamped", [True, False])
def test_an_old_database_is_brought_forward_with_its_rows(database_url: str, stamped: bool) -> None:
    database = Database(database_url)
    made_by_0_1(database, stamped=stamped)
    schema.upgrade(database)
    with database.reading() as session:
        assert session.execute(text("SELECT name, seq FROM collections")).all() == [("old", 7)]
        assert session.execute(text("SELECT state, owner, beat FROM jobs")).all() == [("running", None, 0)]
    database.close()


def test_migrations_make_exactly_the_tables(database_url: str) -> None:
    database = Database(database_url)
    schema.upgrade(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(schema.upgrade, databases))
    with databases[0].reading() as session:
        assert session.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    for database in databases:
        database.close()


def test_a_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    database = Database(database_url)
    schema.upgrade(database)
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(schema.SchemaTooNew, match="schema 9999, which a newer Codewell made"):
        schema.upgrade(database)
    with database.reading() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    database.close()
