"""`codewell key`: API keys by hand, in the database itself, with or without a server beside it. Knows no HTTP."""

import json
import re
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from service.console import print_table
from service.offline import DataDir, opened_database

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BYTES = {"": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "TB": 1_000_000_000_000}

keys = typer.Typer(
    help="Make, list and revoke API keys, in the database itself.", no_args_is_help=True, rich_markup_mode=None
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[
        Literal["read", "write", "admin"],
        typer.Option(help="read: search and read; write: items, too; admin: everything."),
    ],
    collection: Annotated[
        list[str] | None, typer.Option(help="A collection that it reaches, again for several; without it, all.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid, such as 12h, 30d or 8w; without it, until revoked.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Requests that it may send, such as 50/s, 100/m or 1000/h; without it, any.")
    ] = None,
    max_items: Annotated[
        int | None, typer.Option(help="Items in the collections that it reaches; without it, what the server's say.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="Bytes in the collections that it reaches, such as 500MB or 10GB; likewise.")
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, for the only time: the database keeps a digest.

    Makes the database where there is none yet. Running servers take the key at once, and need one from then on.
    """
    from service.keys import Keys
    from service.rights import Scope

    seconds = None if expires is None else _seconds(expires)
    limits = {
        "rate": None if rate is None else _rate(rate),
        "max_items": max_items,
        "max_bytes": None if max_bytes is None else _bytes(max_bytes),
    }
    with opened_database(data_dir, make=True) as database:
        made = Keys(database).create(name, Scope(scope), collection or None, seconds, **limits)
    if as_json:
        typer.echo(json.dumps(asdict(made.key) | {"key": made.token}))
        return
    if sys.stdout.isatty():
        typer.echo(f"Key {made.key.id}; it is shown once and kept nowhere. Servers need keys from now on.", err=True)
    typer.echo(made.token)


@keys.command(name="list")
def list_keys(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show every key without its secret, also those that expired or were revoked."""
    from service.keys import Keys

    now = time.time()
    with opened_database(data_dir) as database:
        found = Keys(database).list()
    if as_json:
        typer.echo(json.dumps({"keys": [asdict(key) | {"state": key.state(now)} for key in found]}))
        return
    rows = [
        (
            key.id,
            key.name,
            key.scope,
            "all" if key.collections is None else " ".join(key.collections),
            _day(key.created_at),
            "never" if key.expires_at is None else _day(key.expires_at),
            key.state(now),
        )
        for key in found
    ]
    print_table("keys", ("id", "name", "scope", "collections", "made", "expires", "state"), rows)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `codewell key list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """Make a key invalid at once, in every server over the database.

    Exit code 1: there is no such key.
    """
    from service.keys import Keys

    with opened_database(data_dir) as database:
        Keys(database).revoke(key_id)
    typer.echo(f"key {key_id} is revoked")


def _seconds(given: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhdw])", given)
    if found is None:
        raise typer.BadParameter(
            f"{given!r} is no length of time; 12h, 30d and 8w are (s, m, h, d, w)", param_hint="--expires"
        )
    return int(found[1]) * SECONDS[found[2]]


def _rate(given: str) -> float:
    found = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)/([smhd])", given)
    if found is None:
        raise typer.BadParameter(f"{given!r} is no rate; 50/s, 100/m and 1000/h are", param_hint="--rate")
    return float(found[1]) / SECONDS[found[2]]


def _bytes(given: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([KMGT]B)?", given)
    if found is None:
        raise typer.BadParameter(f"{given!r} is no size; 500MB and 10GB are", param_hint="--max-bytes")
    return int(found[1]) * BYTES[found[2] or ""]


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
