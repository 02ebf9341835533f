"""The command itself: which checks there are, and how their findings are printed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.console import shown

if TYPE_CHECKING:
    from service.doctor.finding import Finding
    from service.settings import Settings

LONGEST = 1_000


def doctor(
    url: Annotated[str | None, typer.Option(help="Also ask the server that runs there.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data; overrides CODEWELL_DATA_DIR.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address that the server listens on; overrides CODEWELL_HOST.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look what is wrong: settings, packages, disk, memory, threads, database, codecs and keys.

    Changes nothing. With the settings of the server, it looks at what that would find. Prints `ok`, `warn` or `fail`
    for each, and what to do. Exit code 1: something failed.
    """
    from pydantic import ValidationError

    from service.doctor.finding import State
    from service.settings import Settings

    given = {"data_dir": data_dir, "host": host}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]  # without its input, which may be a password
        where = "_".join(str(part) for part in first["loc"]).upper()
        typer.echo(f"codewell: {where and f'CODEWELL_{where}: '}{shown(first['msg'], LONGEST)}", err=True)
        raise typer.Exit(1) from None
    found = []
    for finding in findings(settings, url):
        found.append(finding)
        if not as_json:
            typer.echo(f"{finding.state:<5} {finding.check:<9} {shown(finding.detail, LONGEST)}")
            if finding.advice is not None:
                typer.echo(f"{'':<15} -> {shown(finding.advice, LONGEST)}")
    failed = any(finding.state is State.FAIL for finding in found)
    if as_json:
        typer.echo(json.dumps({"ok": not failed, "findings": [finding._asdict() for finding in found]}))
    raise typer.Exit(int(failed))


def findings(settings: "Settings", url: str | None = None) -> "Iterator[Finding]":
    """Of every check, in turn; one that cannot be made is a finding too."""
    from sqlalchemy.exc import SQLAlchemyError

    from service.client import Client
    from service.doctor import machine, running, stored
    from service.doctor.finding import Finding, State
    from service.errors import CodewellError
    from service.settings import ClientSettings

    checks = {
        "settings": machine.variables,
        "packages": machine.packages,
        "disk": machine.disk,
        "threads": machine.threads,
        "files": machine.files,
        "database": stored.tables,
    }
    for name, check in checks.items():
        try:
            yield from check(settings)
        except (CodewellError, SQLAlchemyError, OSError, ValueError) as error:
            reason = getattr(error.__cause__ or error, "orig", None) or error
            advice = "look at CODEWELL_DATABASE_URL, its password and the network" if name == "database" else None
            yield Finding(name, State.FAIL, str(reason).splitlines()[0], advice)
    if url is not None:
        key = ClientSettings().api_key
        with Client(url, None if key is None else key.get_secret_value()) as client:
            yield from running.answers(client)
