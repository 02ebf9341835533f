"""`codewell compare` as a user types it and sees it. Knows no step of it; imports nothing heavy before it runs."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.console import Progress, print_table, shown

if TYPE_CHECKING:
    from service.compare.comparison import Comparison
    from service.compare.report import Report

MOST_BYTES = 256


def compare(
    vectors: Annotated[
        Path, typer.Argument(metavar="VECTORS", exists=True, dir_okay=False, help="Matrix (.npy), a vector a row.")
    ],
    size: Annotated[int, typer.Option("--bytes", min=1, max=MOST_BYTES, help="Bytes of a code, at most.")],
    queries: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Matrix of queries; without it some of VECTORS are asked for."),
    ] = None,
    metric: Annotated[Literal["cosine", "ip", "l2"], typer.Option(help="How vectors are compared.")] = "cosine",
    rows: Annotated[int, typer.Option(min=200, help="Rows of VECTORS read, at most, evenly spaced.")] = 100_000,
    minutes: Annotated[float, typer.Option(min=0.001, help="Of training for each code, at most.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Same seed and vectors: same codes.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="For training and encoding; one a core if none.")] = None,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Page to be written, with plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train Codewell's codecs and FAISS's of the same bytes on your own vectors, and say which keep more neighbours.

    The first 70% of the rows are trained on; the others are late items, which no training sees. Both are searched
    apart, by decoded vectors. Ctrl-C shows what was measured so far.
    """
    from models import CodecError, Metric, TrainingConfig
    from service.compare.comparison import Comparison
    from service.compare.page import page
    from service.compare.report import Report
    from service.compare.vectors import Sample, read
    from service.errors import CodewellError
    from service.files import published

    try:
        if html is not None:
            html.parent.mkdir(parents=True, exist_ok=True)
        base = read(vectors, rows, Metric(metric), "VECTORS")
        asked = None if queries is None else read(queries, rows, Metric(metric), "--queries", base.vectors.shape[1])
        for path, of in ((vectors, base), (queries, asked)):
            if of is not None and of.rejects:
                first, reason = next(iter(of.rejects.items()))
                typer.echo(f"{path}: {len(of.rejects):,} rows are left out; row {first}: {reason}", err=True)
        sample = Sample.of(base.vectors, None if asked is None else asked.vectors)
        training = TrainingConfig(minutes=minutes, seed=seed)
        comparison = Comparison(sample, Metric(metric), size, training, threads or os.cpu_count() or 1)
        report = Report(vectors.name, comparison)
        code = 0 if _measured(comparison, report) else 130
        if as_json:
            typer.echo(json.dumps(report.record()))
        else:
            _say(report)
        if html is not None:
            with published(html) as draft:
                draft.write_text(page(report), encoding="utf-8")
            typer.echo(f"the page with the plots is {html}", err=True)
    except (CodewellError, CodecError, OSError, ValueError) as error:
        field = f"{error.field}: " if isinstance(error, CodewellError) and error.field else ""
        typer.echo(f"codewell: {shown(field + str(error), 1_000)}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(code)


def _measured(comparison: "Comparison", report: "Report") -> bool:
    """Whether all codes were; those that were before Ctrl-C are in the report."""
    names = [candidate.name for candidate in comparison.candidates]
    try:
        with Progress("compare", len(names), "codes") as progress:
            for row in comparison.rows(lambda name, share: progress.to(names.index(name) + share, name)):
                report.rows.append(row)
                progress.to(len(report.rows))
    except KeyboardInterrupt:
        typer.echo(f"stopped: {len(report.rows)} of {len(names)} codes were measured", err=True)
        return False
    return True


def _say(report: "Report") -> None:
    print_table(report.title, report.columns, report.cells)
    for failed in report.failed:
        typer.echo(f"{failed.candidate.name} is missing: {failed.reason}")
    for line in (*report.notes, report.caveat, *(verdict.sentence for verdict in report.verdicts)):
        if line is not None:
            typer.echo(line)
    if (taken := report.taken) is not None:
        typer.echo(f'Most neighbours of late items are kept by "codec": {json.dumps(taken.candidate.codec)}')
