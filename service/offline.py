"""Commands that work on the database itself, with or without a server beside them. Knows no HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.store.database import Database

DataDir = Annotated[Path | None, typer.Option(help="Folder of the data; overrides CODEWELL_DATA_DIR.")]


def verify(
    collection: Annotated[str | None, typer.Argument(help="One collection; without it, all.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Compare items, vectors, codes, log and codecs in the database with each other, and change nothing.

    Prints a line for each difference. Exit code 1: there are some, or the database cannot be read.
    """
    from service.verification import verify as differences

    found = 0
    with opened_database(data_dir) as database:
        for difference in differences(database, collection):
            found += 1
            typer.echo(f"{difference.collection}: {difference.what}")
    typer.echo(f"{found} differences" if found else "no differences")
    raise typer.Exit(int(found > 0))


def export(
    collection: Annotated[str, typer.Argument(help="Collection, or an alias of one.")],
    file: Annotated[Path, typer.Argument(help="To be written: .ndjson or .jsonl, also with .gz, or .parquet.")],
    data_dir: DataDir = None,
) -> None:
    """Write a collection's items, as they are in one moment, to a file that `ingest` and `build` read.

    The file appears once it is whole.
    """
    from service.export import export as written

    with opened_database(data_dir) as database:
        items, seq = written(database, collection, file)
    typer.echo(f"{items} items, as of seq {seq}")


@contextmanager
def opened_database(data_dir: Path | None, *, make: bool = False) -> "Iterator[Database]":
    """The database of the settings; what is wrong with it, or with what is asked of it, is one line and exit code 1.

    With `make`, one that is not there is made, and an older one migrated.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from service.errors import CodewellError
    from service.settings import Settings
    from service.store import schema
    from service.store.database import Database

    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    if not make and settings.database_url is None and not (settings.data_dir / "codewell.db").exists():
        typer.echo(f"Error: there is no database in {settings.data_dir}; name its folder by --data-dir", err=True)
        raise typer.Exit(1)
    try:
        database = Database(settings.database)
        try:
            (schema.upgrade if make else schema.checked)(database)
            yield database
        finally:
            database.close()
    except (SQLAlchemyError, CodewellError, OSError, ValueError) as error:
        reason = getattr(error, "orig", None) or error
        typer.echo(f"Error: {str(reason).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error
