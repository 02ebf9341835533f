"""Commands that work on the database itself, with or without a server beside them. Knows no HTTP."""

from pathlib import Path
from typing import Annotated

import typer


def verify(
    collection: Annotated[str | None, typer.Argument(help="One collection; without it, all.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data; overrides CODEWELL_DATA_DIR.")] = None,
) -> None:
    """Compare items, vectors, codes, log and codecs in the database with each other, and change nothing.

    Prints a line for each difference. Exit code 1: there are some, or the database cannot be read.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from service.errors import CodewellError
    from service.settings import Settings
    from service.store import schema
    from service.store.database import Database
    from service.verification import verify as differences

    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    found = 0
    if settings.database_url is None and not (settings.data_dir / "codewell.db").exists():
        typer.echo(f"Error: there is no database in {settings.data_dir}; name its folder by --data-dir", err=True)
        raise typer.Exit(1)
    try:
        database = Database(settings.database)
        try:
            schema.checked(database)
            for difference in differences(database, collection):
                found += 1
                typer.echo(f"{difference.collection}: {difference.what}")
        finally:
            database.close()
    except (SQLAlchemyError, CodewellError, OSError, ValueError) as error:
        reason = getattr(error, "orig", None) or error
        typer.echo(f"Error: the database cannot be verified: {str(reason).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{found} differences" if found else "no differences")
    raise typer.Exit(int(found > 0))
