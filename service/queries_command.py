"""`codewell queries` as a user types it and sees it. Knows the server only through its REST API."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from service.watch import connected

LARGEST = 1_000_000
"""Characters of the lines in one request, about."""


def queries(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="Collection, or an alias of one.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help='NDJSON: a {"text": ...} or {"vector": [...]} a line.')
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove those that are kept, and add none.")] = False,
    url: Annotated[
        str | None, typer.Option(help="Server to talk to; without it CODEWELL_URL, or else http://127.0.0.1:8000.")
    ] = None,
) -> None:
    """Add queries like those of your users, by which codecs are measured from then on; without a file, count them.

    100 different ones are needed, more for a contract above 0.92, and of more than 2,000 the newest are kept.
    """
    if file is not None and forget:
        raise typer.BadParameter("either a file to add, or --forget", param_hint="--forget")
    requests = [] if file is None else list(_requests(file))  # a wrong line is told before any is sent
    with connected(url) as client:
        if forget:
            client.forget_queries(collection)
        for given in requests:
            client.give_queries(collection, given)
        held = client.held_queries(collection)
    if sys.stdout.isatty():
        typer.echo(f"{collection} has {held['given']:,} queries that were given, and {held['logged']:,} logged ones")
    else:
        typer.echo(json.dumps({"collection": collection} | held))


def _requests(file: Path) -> Iterator[dict[str, list[Any]]]:
    """Bodies of requests, each of texts or of vectors."""
    kinds: dict[str, list[Any]] = {"text": [], "vector": []}
    waiting = 0
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            ((kind, value),) = json.loads(line).items()
            kinds[kind].append(value)
        except (ValueError, KeyError, AttributeError, RecursionError):
            raise typer.BadParameter(
                f'{file}, line {number}: it is neither {{"text": ...}} nor {{"vector": [...]}}', param_hint="FILE"
            ) from None
        waiting += len(line)
        if waiting > LARGEST:
            yield from _taken(kinds)
            waiting = 0
    yield from _taken(kinds)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="FILE") from error


def _taken(kinds: dict[str, list[Any]]) -> Iterator[dict[str, list[Any]]]:
    for kind, values in kinds.items():
        if values:
            yield {f"{kind}s": values[:]}
        values.clear()
