"""`codewell retrain` as a user types it and sees it. Knows the server only through its REST API."""

import json
import sys
from typing import Annotated, Literal

import typer

from service.watch import connected


def retrain(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="Collection, or an alias of one.")],
    when: Annotated[
        Literal["drifting", "stale"] | None, typer.Option(help="Drift of the newest items from which on it trains.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--at-most-every-hours", help="Between two trainings that begin so; 24 without it.")
    ] = None,
    never: Annotated[bool, typer.Option("--never", help="Train only when somebody asks.")] = False,
    url: Annotated[
        str | None, typer.Option(help="Server to talk to; without it CODEWELL_URL, or else http://127.0.0.1:8000.")
    ] = None,
) -> None:
    """Let a collection be trained again by itself when its newest items have drifted, or end that."""
    if (when is not None) == never:
        raise typer.BadParameter("either --when drifting, --when stale, or --never", param_hint="--when")
    if never and hours is not None:
        raise typer.BadParameter("it says how often to train, and --never not to", param_hint="--at-most-every-hours")
    often = {} if hours is None else {"at_most_every_hours": hours}
    policy = None if when is None else {"when": when} | often
    with connected(url) as client:
        told = client.set_retrain(collection, policy)["retrain"]
    if not sys.stdout.isatty():
        typer.echo(json.dumps({"collection": collection, "retrain": told}))
    elif told is None:
        typer.echo(f"{collection} is trained when somebody asks")
    else:
        hours = told["at_most_every_hours"]
        typer.echo(f"{collection} is trained again when {told['when']}, every {hours:g} hours at most")
