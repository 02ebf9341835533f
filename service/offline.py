"""Commands that work on the database itself, with or without a server beside them. Knows no HTTP."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.engines.command import EngineName, check, copy

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database

DataDir = Annotated[Path | None, typer.Option(help="Folder of the data; overrides CODEWELL_DATA_DIR.")]


def verify(
    collection: Annotated[str | None, typer.Argument(help="One collection; without it, all.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Compare items, vectors, codes, log and codecs in the database with each other, and snapshots of codes with it.

    Changes nothing.

    Prints a line for each difference. Exit code 1: there are some, or the database cannot be read.
    """
    from service.snapshots import Snapshots
    from service.verification import verify as differences

    found = 0
    with opened_database(data_dir) as database:
        snapshots = Snapshots(_settings(data_dir).snapshots_dir, database)
        for difference in differences(database, collection, snapshots):
            found += 1
            typer.echo(f"{difference.collection}: {difference.what}")
    typer.echo(f"{found} differences" if found else "no differences")
    raise typer.Exit(int(found > 0))


def export(
    collection: Annotated[str, typer.Argument(help="Collection, or an alias of one.")],
    file: Annotated[
        Path | None, typer.Argument(help="To be written: .ndjson or .jsonl, also with .gz, or .parquet.")
    ] = None,
    to: Annotated[EngineName | None, typer.Option(help="Engine that its codes are copied to, instead of FILE.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="URL", help="Of the engine: postgresql://USER@HOST/NAME, http://HOST:19530.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="Its name there; the collection's own where none is given.")] = None,
    form: Annotated[
        Literal["codes", "vectors"] | None, typer.Option(help="What is copied: codes, or what they decode to.")
    ] = None,
    index: Annotated[bool, typer.Option("--index", help="With an HNSW index; without, a search reads all.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what changes, until Ctrl-C or SIGTERM.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Write a collection's items, as they are in one moment, to a file that `ingest` and `build` read.

    The file appears once it is whole. With --to, copy its codes to an engine instead: the first time all of them,
    later what has changed; another codec replaces all of them at once.
    """
    from service.export import export as written

    check(file, to, {"--target": target, "--table": table, "--form": form, "--index": index, "--follow": follow})
    with opened_database(data_dir) as database:
        if to is not None and target is not None:
            copy(database, collection, to, target, table, form or "codes", index=index, follow=follow)
        elif file is not None:
            items, seq = written(database, collection, file)
            typer.echo(f"{items} items, as of seq {seq}")


def attach(
    collection: Annotated[str, typer.Argument(help="To be made.")],
    folder: Annotated[
        str, typer.Argument(metavar="GENERATION", help="What `codewell build` made: a folder, or the URL of one.")
    ],
    encoder: Annotated[
        str | None, typer.Option(help="Text encoder of its vectors, so that texts can be asked.")
    ] = None,
    file_ids: Annotated[
        bool, typer.Option("--file-ids", help="Items are called FILE:ID, by the names of the build's inputs.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make a collection of a built folder, with or without a server beside it; then it takes changes as any other.

    Ids and codes become rows of the database, and the folder is needed no more. There are no vectors in it: searches
    rank by codes. Cut off, the same command goes on. Exit code 1: the folder is damaged, there is such a collection, or
    an id stands in two inputs.
    """
    from models import CodecError
    from service.attachment import Attachment
    from service.bootstrap import encoders
    from service.builds.command import Steps
    from service.builds.generation import Generation
    from service.builds.remote_folder import fetched
    from service.console import Progress
    from service.errors import InvalidInput
    from service.snapshots import Snapshots

    settings = _settings(data_dir)
    try:
        with opened_database(data_dir, make=True) as database:
            known = encoders(settings)
            if encoder is not None and encoder not in known:
                raise InvalidInput(
                    f"there is no encoder {encoder!r}, but {', '.join(sorted(known))}", field="--encoder"
                )
            with Steps() as steps:
                built = Generation.open(fetched(folder, steps.to))
            kept = len(built) >= settings.snapshot_at > 0
            snapshots = Snapshots(settings.snapshots_dir, database) if kept else None
            made = Attachment(database, snapshots, built, known.get(encoder or ""))
            with Progress(f"attach {collection}", len(built), "items") as progress:
                told = made.run(collection, file_ids=file_ids, progress=lambda done, _: progress.to(done))
    except CodecError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("stopped: the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{told.items} items, {told.written} written now, as generation {told.generation} of {told.collection}")


def snapshot(
    folder: Annotated[Path, typer.Argument(help="To be made; it may be there and empty.")],
    data_dir: DataDir = None,
) -> None:
    """Copy everything, as it is in one moment, to a new folder, while servers go on: a backup.

    `codewell restore` puts it back, into SQLite or PostgreSQL, whichever it came from.
    """
    from service.backup import back_up

    with opened_database(data_dir) as database:
        manifest = back_up(database, folder)
    _print_backup(manifest)


def restore(
    folder: Annotated[Path, typer.Argument(help="What `codewell snapshot` made.")], data_dir: DataDir = None
) -> None:
    """Put a backup back where there is no database, or into a PostgreSQL database without tables.

    Its checksum is compared first. Exit code 1: it is damaged or of a newer Codewell, there is something already, or a
    server runs there.
    """
    from service.backup import restore_file, restore_rows
    from service.store.database import Database

    settings = _settings(data_dir)
    with _told():
        if settings.database_file is not None:
            manifest = restore_file(folder, settings.database_file, settings.jobs_dir / "lock")
        else:
            with closing(Database(settings.database)) as database:
                manifest = restore_rows(folder, database, settings.data_dir)
    _print_backup(manifest)


def _print_backup(manifest: dict[str, Any]) -> None:
    for name, told in manifest["collections"].items():
        typer.echo(f"{name}: {told['items']} items, as of seq {told['seq']}")
    typer.echo(f"{len(manifest['collections'])} collections")


def _settings(data_dir: Path | None) -> "Settings":
    from service.settings import Settings

    return Settings() if data_dir is None else Settings(data_dir=data_dir)


@contextmanager
def _told() -> "Iterator[None]":
    """What is wrong with the database, or with what is asked of it, is one line and exit code 1."""
    from sqlalchemy.exc import SQLAlchemyError

    from service.errors import CodewellError

    try:
        yield
    except (SQLAlchemyError, CodewellError, OSError, ValueError) as error:
        reason = getattr(error, "orig", None) or error
        typer.echo(f"Error: {str(reason).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def opened_database(data_dir: Path | None, *, make: bool = False) -> "Iterator[Database]":
    """The database of the settings; what is wrong with it, or with what is asked of it, is one line and exit code 1.

    With `make`, one that is not there is made, and an older one migrated.
    """
    from service.store import schema
    from service.store.database import Database

    settings = _settings(data_dir)
    file = settings.database_file if settings.database_url is None else None
    if not make and file is not None and not file.exists():
        typer.echo(f"Error: there is no database in {settings.data_dir}; name its folder by --data-dir", err=True)
        raise typer.Exit(1)
    with _told():
        database = Database(settings.database)
        try:
            (schema.upgrade if make else schema.checked)(database)
            yield database
        finally:
            database.close()
