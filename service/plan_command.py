"""`codewell plan` as a user types it and sees it. Knows no step of it; imports nothing heavy before it runs."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.console import Progress, print_table, shown
from service.watch import asked_contract, connected, ended


def plan(
    vectors: Annotated[
        Path | None,
        typer.Argument(
            metavar="[VECTORS]", exists=True, dir_okay=False, help="Matrix (.npy), a vector a row: needs no server."
        ),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Instead of a file: a collection, or an alias of one.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Server to talk to; without it CODEWELL_URL, or else http://127.0.0.1:8000.")
    ] = None,
    contract: Annotated[
        list[str] | None,
        typer.Option(metavar="RECALL=LEAST", help="Recall that is wanted, such as recall@10=0.95, which is the usual."),
    ] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Bytes of a code, at most.")] = None,
    total_bytes: Annotated[
        float | None, typer.Option(help="Bytes a vector in RAM with ids, tables and codec, at most.")
    ] = None,
    ram_mb: Annotated[float | None, typer.Option(help="RAM of all items' codes in megabytes, at most.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Median of a search, at most.")] = None,
    oversample: Annotated[
        int | None,
        typer.Option(min=1, help="Of a search, at most: k times so many originals are read for k hits; 20 if none."),
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Size to plan for, where it is another.")] = None,
    codes_only: Annotated[bool, typer.Option("--codes-only", help="Searches read no originals.")] = False,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Kinds that are tried: dense, binary, residual, faiss; each by an option, all where none is named."
        ),
    ] = None,
    sample: Annotated[int | None, typer.Option(min=200, help="Vectors looked at, at most.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Of training in all, at most.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and vectors: same codes.")] = 0,
    metric: Annotated[
        Literal["cosine", "ip", "l2"] | None, typer.Option(help="How vectors of a file are compared; cosine if none.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="For a file; one a core if none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Find the cheapest code that meets a contract, measured on your own vectors: Codewell's and FAISS's.

    Nothing is published. Ctrl-C stops a plan over a file; one over a collection is a job and goes on.
    """
    if (vectors is None) == (collection is None):
        raise typer.BadParameter("give either a file of vectors or --collection", param_hint="VECTORS")
    if vectors is None and (metric is not None or threads is not None):
        raise typer.BadParameter("a collection has its own metric and threads", param_hint="--metric, --threads")
    try:
        wanted = asked_contract(contract or [], max_bytes)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--contract") from error
    costs = {"total_bytes": total_bytes, "ram_mb": ram_mb, "latency_ms": latency_ms}
    budgets = {name: most for name, most in costs.items() if most is not None}
    body: dict[str, Any] = {"items": items, "sample": sample, "minutes": minutes, "seed": seed, "kinds": kind or None}
    body |= {
        "oversample": oversample,
        "contract": wanted or None,
        "budgets": budgets or None,
        "rescore": False if codes_only else None,
    }
    body = {name: value for name, value in body.items() if value is not None}
    if collection is not None:
        with connected(url) as client:
            record = ended(client, client.plan(collection, body), f"plan {collection}")["result"]
        title = f"Codes for {collection}"
    else:
        assert vectors is not None  # noqa: S101 - said above
        record = _of_file(vectors, body, metric or "cosine", threads)
        title = f"Codes for {vectors.name}"
    if as_json:
        typer.echo(json.dumps(record))
    else:
        _say(title, record)


def _of_file(path: Path, body: dict[str, Any], metric: str, threads: int | None) -> Mapping[str, Any]:
    import torch
    from pydantic import ValidationError

    from models import CodecError, Metric
    from service.compare.vectors import Sample, read
    from service.errors import CodewellError
    from service.planning.plan import Plan
    from service.planning.point import Trial
    from service.planning.wish import MINUTES, SAMPLE, PlanSpec
    from service.search import Stage

    try:
        wish = PlanSpec.model_validate(body)
        base = read(path, wish.sample or SAMPLE, Metric(metric), "VECTORS")
        if base.rejects:
            row, reason = next(iter(base.rejects.items()))
            typer.echo(f"{path}: {len(base.rejects):,} rows are left out; row {row}: {reason}", err=True)
        torch.set_num_threads(threads or os.cpu_count() or 1)
        trial = Trial.in_ram(
            Sample.of(base.vectors, None),
            Metric(metric),
            wish.items or base.rows,
            wish.recalls,
            Stage.RESCORE if wish.rescore in (True, None) else Stage.REFINE,
            wish.most_oversample,
            wish.seed,
        )
        planned = Plan(wish, trial, wish.minutes or MINUTES)
        with Progress("plan", 1) as progress:
            planned.run(progress.to)
            progress.to(1)
        return planned.record()
    except ValidationError as error:
        wrong = error.errors()[0]
        said = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
    except (CodewellError, CodecError, OSError, ValueError) as error:
        said = f"{error.field}: {error}" if isinstance(error, CodewellError) and error.field else str(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo(f"codewell: {shown(said, 1_000)}", err=True)
    raise typer.Exit(1)


def _say(title: str, record: Mapping[str, Any]) -> None:
    rows = [
        (
            one["name"] + (" *" if one["frontier"] else ""),
            one["code_bytes"],
            f"{one['total_bytes']:,.1f}",
            *(f"{one['recall@10'][how]['value']:.3f}" for how in ("codes", "rescored")),
            f"{one['late_recall@10']:.3f}",
            one["oversample"] or "-",
            " ".join(f"{figures['value']:.3f} ({figures['low']:.3f})" for figures in one["certified"].values()),
            "-" if one["latency_ms"] is None else f"{one['latency_ms']:.2f}",
            f"{one['training_seconds']:.1f}",
            one["encoded_per_second"],
        )
        for one in sorted(record["codes"], key=lambda one: one["total_bytes"])
    ]
    columns = ("code", "bytes", "in all", "codes @10", "rescored @10", "late @10", "oversample")
    print_table(title, (*columns, "there (low)", "ms", "train s", "encoded/s"), rows)
    for failed in record["failed"]:
        typer.echo(f"{failed['name']} is missing: {failed['reason']}")
    counts = record["counts"]
    typer.echo(
        f"{counts['seen']:,} vectors were trained on; {counts['queries']:,} asked for their neighbours among these and "
        f"{counts['late']:,} later ones. In all: bytes a vector in RAM where {record['items']:,} items share tables "
        "and codec. Codes, rescored: recall@10 with an oversample of 10; late: by codes, of neighbours that no "
        "training saw. Oversample: the least that the contract needs; there: its recall, and the lower end of its "
        "interval. * No other takes less and keeps as much."
    )
    for sentence in record["sentences"]:
        typer.echo(sentence)
    if record["take"] is not None:
        typer.echo(f'Take "codec": {json.dumps(record["take"]["codec"])}')
