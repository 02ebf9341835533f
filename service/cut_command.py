"""`codewell cut` as a user types it and sees it. Knows the server only through its REST API."""

import json
import sys
from typing import Annotated

import typer

from service.console import print_certificate
from service.watch import connected, ended


def cut(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="Collection, or an alias of one.")],
    size: Annotated[int, typer.Option("--bytes", min=1, help="Bytes of a code that are kept: the first ones.")],
    url: Annotated[
        str | None, typer.Option(help="Server to talk to; without it CODEWELL_URL, or else http://127.0.0.1:8000.")
    ] = None,
) -> None:
    """Cut a collection's codes to fewer bytes, the first ones, without training or encoding again.

    Search and ingest go on meanwhile. Prints what was measured before publishing; `codewell rollback` undoes it. Exit
    code 1: such codes cannot be cut, or they would not keep their contract and were not published.
    """
    with connected(url) as client:
        job = ended(client, client.cut(collection, size), f"cut {collection}")
    result = job["result"]
    if not sys.stdout.isatty():
        typer.echo(json.dumps({"job": job["id"], "state": job["state"]} | result))
        return
    typer.echo(f"generation {result['generation']} is published instead of {result['before']}")
    print_certificate(result["certificate"])
