"""`codewell build` as a user types it and sees it. Knows no step of a build; imports nothing heavy before it runs."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.builds.address import path_of
from service.console import Progress, print_certificate, shown

if TYPE_CHECKING:
    from service.builds.remote_folder import RemoteFolder

MB = 1024**2
BYTES = ("reading", "downloading", "uploading")
"""Steps whose progress is counted in them."""


def build(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, URLs, globs, folders of saved datasets.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder, made if need be, or the URL of one.")],
    local: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where a build for a URL works; a folder of the user's cache if none."),
    ] = None,
    ids: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="An id a line for the rows of the one .npy INPUT.")
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field or column of the id.")] = "id",
    vector_field: Annotated[str, typer.Option(help="Field or column of the vector.")] = "vector",
    kind: Annotated[
        Literal["dense", "variational", "sparse", "binary", "residual"] | None,
        typer.Option("--codec", help="Kind of autoencoder; dense if none."),
    ] = None,
    size: Annotated[int | None, typer.Option("--bytes", min=1, help="Bytes of a code, at most.")] = None,
    factory: Annotated[
        str | None, typer.Option(help="Instead of an autoencoder, FAISS's quantiser of this name: OPQ32_192,PQ32x8.")
    ] = None,
    metric: Annotated[Literal["cosine", "ip", "l2"] | None, typer.Option(help="cosine if none.")] = None,
    train_sample: Annotated[int, typer.Option(min=100, help="Vectors trained on, at most, drawn evenly.")] = 200_000,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over them, at most.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Ends training after this long.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and vectors: same codec.")] = 0,
    codec_from: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Built folder whose codec is used.")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train anew where the folder has a codec.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that encode; one a core if none. On CUDA one does.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Encode on this Ray cluster: auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
    shard_rows: Annotated[int, typer.Option(min=1, help="Rows encoded together: a kill loses no more.")] = 50_000,
    memory_gb: Annotated[float, typer.Option(min=0.01, help="RAM for vectors held at once.")] = 4.0,
    max_rejects: Annotated[int | None, typer.Option(min=0, help="Stop when more rows are rejected.")] = None,
) -> None:
    """Encode files of vectors into a folder of codes, without a server.

    Reads .npy, .ndjson and .jsonl (also .gz), and with the extra `build` .parquet, .arrow, .feather and folders of
    `save_to_disk`; from https://, s3:// and others as well (extra `urls`), and tables by
    postgresql://HOST/DATABASE?table=SCHEMA.NAME. Trains on a sample, encodes, measures recall against exact search, and
    writes manifest.json last. Cut off at any moment, the same command goes on where it was; over unchanged inputs it
    does nothing. Rows that cannot be kept are listed in rejects.ndjson. Exit code 0: done; 1: error; 3: done, some rows
    rejected.
    """
    from models import CodecError, Metric
    from service.builds.batch import BatchBuild
    from service.builds.config import BuildConfig
    from service.builds.inputs import Reading
    from service.builds.memory import peak_bytes
    from service.builds.reader import Columns
    from service.codec_spec import TrainingSpec
    from service.errors import CodewellError

    if factory is not None and (kind is not None or size is not None):
        raise typer.BadParameter("it says kind and bytes itself: not with --codec or --bytes", param_hint="--factory")
    if ray is not None and workers is not None:
        raise typer.BadParameter("the cluster encodes with all its CPUs: not with --ray", param_hint="--workers")
    remote = _remote(output)
    if remote is None and local is not None:
        raise typer.BadParameter("an --output at a URL is built there", param_hint="--local")
    folder = Path(path_of(output)) if remote is None else local or remote.worked_on
    if folder.is_file():
        raise typer.BadParameter(f"{folder} is a file", param_hint="--output")
    asked = {"kind": kind if factory is None else "faiss", "bytes": size, "factory": factory}
    given = {"epochs": epochs, "minutes": minutes, "seed": seed}
    began, steps = time.monotonic(), Steps()
    try:
        config = BuildConfig(
            tuple(inputs),
            folder,
            Reading(Columns(id_field, vector_field), ids),
            tuple((name, value) for name, value in asked.items() if value is not None),
            None if metric is None else Metric(metric),
            TrainingSpec(**{name: value for name, value in given.items() if value is not None}),
            train_sample,
            codec_from,
            retrain,
            workers or (1 if ray else os.cpu_count() or 1),
            ray,
            shard_rows,
            int(memory_gb * 1024**3),
            max_rejects,
            remote,
        )
        with steps:
            outcome = BatchBuild(config, steps.to).run()
    except KeyboardInterrupt:
        typer.echo("stopped: the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    except (CodewellError, CodecError, OSError, ValueError) as error:
        field = f"{error.field}: " if isinstance(error, CodewellError) and error.field else ""
        typer.echo(f"codewell: {shown(field + str(error), 1_000)}", err=True)
        raise typer.Exit(1) from None
    manifest, certificate = outcome.manifest, outcome.certificate
    rejects = folder / manifest.generation / "rejects.ndjson"
    told: dict[str, Any] = {
        "output": str(remote or folder),
        "codec": outcome.codec,
        "items": manifest.items,
        "encoded": outcome.encoded,
        "rejected": manifest.rejected,
        "rejects": str(rejects) if manifest.rejected else None,
        "bytes": sum(file["bytes"] for file in manifest.files.values()),
        "seconds": round(time.monotonic() - began, 2),
        "peak_mb": round(peak_bytes() / MB),
        "worker_peak_mb": round(outcome.worker_peak / MB),
    }
    _say(told, certificate)
    raise typer.Exit(3 if manifest.rejected else 0)


def _say(told: dict[str, Any], certificate: dict[str, Any]) -> None:
    if not sys.stdout.isatty():
        typer.echo(json.dumps(told | {"certificate": certificate}))
        return
    if told["codec"] == "unchanged":
        typer.echo(f"nothing to do: {told['items']:,} items are there as the inputs have them")
        return
    how = {"trained": "trained", "kept": "kept (--retrain trains a new one)", "taken": "taken from --codec-from"}
    typer.echo(f"{told['items']:,} items, {told['encoded']:,} rows encoded, codec {how[told['codec']]}")
    if told["rejected"]:
        typer.echo(f"{told['rejected']:,} rows were rejected: {told['rejects']} says why")
    if certificate["queries"]:
        print_certificate(certificate)
    typer.echo(
        f"{told['bytes'] / MB:,.1f} MB in {told['output']}, {told['seconds']:.1f} s, peak RAM {told['peak_mb']:,} MB"
    )
    if told["worker_peak_mb"]:
        typer.echo(f"the largest worker took {told['worker_peak_mb']:,} MB")


def _remote(output: str) -> "RemoteFolder | None":
    from service.builds.address import is_url, scheme
    from service.builds.remote_folder import RemoteFolder

    return RemoteFolder(output) if is_url(output) and scheme(output) not in ("file", "local") else None


class Steps:
    """One progress after the other: a build says which step it is at."""

    def __init__(self) -> None:
        self._step = ""
        self._progress: Progress | None = None

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *ended: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)

    def to(self, step: str, done: float, total: float) -> None:
        """Begins the step's progress where it is not begun."""
        name, _, more = step.partition(", ")
        if name != self._step:
            self.__exit__()
            unit = None if name == "training" else "bytes" if name in BYTES else "rows"
            self._step, self._progress = name, Progress(name, total, unit).__enter__()
        if self._progress is not None:
            self._progress.to(done, more if sys.stderr.isatty() else step)
