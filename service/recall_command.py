"""`codewell recall` as a user types it and sees it: where recall is lost, and whether new items have drifted away."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from service.console import print_table, rate, shown
from service.watch import connected


def recall(
    collection: Annotated[str, typer.Option(help="Collection, or an alias of one.")] = "default",
    url: Annotated[
        str | None, typer.Option(help="Server to talk to; without it CODEWELL_URL, or else http://127.0.0.1:8000.")
    ] = None,
    index: Annotated[Literal["faiss", "buckets"], typer.Option(help="What finds the shortlist.")] = "faiss",
    queries: Annotated[int, typer.Option(min=10, max=1_000, help="Live items that are asked for.")] = 100,
    seconds: Annotated[float, typer.Option(help="How long it may take, about; 60 at most.")] = 5.0,
    wanted: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Only items with such metadata, as in a search.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Measure on live items where recall is lost, and what gives it back at how many milliseconds.

    Says too whether the newest items have drifted away from those that the codec was certified on. Exit code 1: nothing
    is published yet, or too few items have their originals.
    """
    asked = {"index": index, "queries": queries, "seconds": seconds} | ({"filter": wanted} if wanted else {})
    with connected(url) as client:
        told = client.recall(collection, asked)
        told["drift"] = client.collection(collection)["drift"]
    if as_json:
        typer.echo(json.dumps(told))
        return
    _print(told)


def _print(told: Mapping[str, Any]) -> None:
    of, lost = told["recall@10"], told["lost"]
    rows = [
        (
            "as it is" if one["knob"] == "default" else f"{one['knob']} {one[one['knob']] or 'none'}",
            rate(one["recall@10"]),
            f"{one['ms']:.1f}",
            f"{one['gives_back']:+.3f}",
            f"{one['costs_ms']:+.1f}",
        )
        for one in told["knobs"]
    ]
    print_table(
        f"recall@10 by {told['index']}, {told['queries']:,} of {told['items_chosen']:,} live items asked for",
        ("search", "recall@10", "ms", "gives back", "costs ms"),
        rows,
    )
    typer.echo(
        f"recall@10 is {of['value']:.3f}, 95% interval {of['low']:.3f} to {of['high']:.3f}; "
        + ", ".join(f"the {stage} loses {share:.3f}" for stage, share in lost.items())
    )
    typer.echo(shown(told["sentence"], 1_000))
    if (drift := told["drift"]) is not None:
        typer.echo(f"new items: {drift['status']}, {drift['items']:,} looked at")
        if (asked := drift["queries"]) is not None:
            typer.echo(f"queries: {asked['status']}, {asked['queries']:,} looked at")
