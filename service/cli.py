"""The command `codewell`. Knows the server only through its REST API, but for `serve`, which is the server.

Exit codes of every command: 0 done; 1 an error, said in one line on stderr; 2 wrong usage; 3 `ingest` rejected some
items and kept the others; 130 Ctrl-C. Nothing heavy is imported before a command needs it.
"""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from service.builds.command import build
from service.client import ClientError
from service.compare.command import compare
from service.console import Progress, print_certificate, print_hits, print_status, print_summary, shown
from service.cut_command import cut
from service.doctor.command import doctor
from service.key_commands import keys
from service.offline import attach, export, restore, snapshot, verify
from service.plan_command import plan
from service.queries_command import queries
from service.recall_command import recall
from service.retrain_command import retrain
from service.watch import connected, ended

HELP = """Retrieval over codes of a few bytes: run the server, fill it, train it, ask it.

Exit codes: 0 done, 1 an error, 2 wrong usage, 3 ingest rejected some items, 130 Ctrl-C.
"""
app = typer.Typer(
    help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.command()(build)
app.command()(compare)
app.command()(cut)
app.command()(doctor)
app.command()(plan)
app.command()(queries)
app.command()(recall)
app.command()(retrain)
app.command()(verify)
app.command()(export)
app.command()(attach)
app.command()(snapshot)
app.command()(restore)
app.add_typer(keys, name="key")

Url = Annotated[
    str | None, typer.Option(help="Server to talk to; without it CODEWELL_URL, or else http://127.0.0.1:8000.")
]
CollectionName = Annotated[str, typer.Option(help="Collection, or an alias of one.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def main() -> None:
    """The entry point."""
    try:
        app()
    except ClientError as error:
        _fail(str(error))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; overrides CODEWELL_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, 0 for a free one; overrides CODEWELL_PORT.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data, made if need be; overrides CODEWELL_DATA_DIR.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that answer requests; overrides CODEWELL_WORKERS.")
    ] = None,
    generation: Annotated[
        str | None,
        typer.Option(help="Serve what `codewell build` made, a folder or the URL of one, read-only, and no database."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Search that folder on this Ray cluster: auto, HOST:PORT or ray://HOST:PORT."
        ),
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="Runs of items that the cluster searches apart.")] = 1,
    replicas: Annotated[int, typer.Option(min=1, help="Of each of them.")] = 1,
    log_level: Annotated[
        str | None, typer.Option(help="critical, error, warning, info or debug; overrides CODEWELL_LOG_LEVEL.")
    ] = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Every other setting comes from the environment (CODEWELL_...). Exits with 1 where the port is in use or the data
    folder or database cannot be used.
    """
    from pydantic import ValidationError

    from service.cluster.placement import Placement
    from service.serving import CannotServe, run
    from service.settings import Settings

    if ray is None and (shards, replicas) != (1, 1):
        raise typer.BadParameter(
            "a cluster is cut so: with --ray", param_hint="--shards" if shards > 1 else "--replicas"
        )
    if ray is not None and generation is None:
        raise typer.BadParameter("a cluster searches what `codewell build` made: with --generation", param_hint="--ray")
    placement = None if ray is None else Placement(ray, shards, replicas)
    given = {"host": host, "port": port, "data_dir": data_dir, "workers": workers, "log_level": log_level}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = "_".join(str(part) for part in first["loc"]).upper()
        _fail(f"{where and f'CODEWELL_{where}: '}{first['msg']}")
    folder = None if generation is None else _built(generation)
    try:
        run(settings, typer.echo, folder, placement)
    except CannotServe as error:
        _fail(str(error))


@app.command()
def ingest(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Items: .jsonl or .ndjson (also .gz), .parquet as `export` writes it, or a matrix in .npy.",
        ),
    ],
    collection: CollectionName = "default",
    url: Url = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Items sent and committed together.")] = 256,
    vectors: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Matrix (.npy) whose rows are the vectors of FILE's lines."),
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field of a line that holds the id.")] = "id",
    text_field: Annotated[str, typer.Option(help="Field of a line that holds the text.")] = "text",
    vector_field: Annotated[str, typer.Option(help="Field of a line that holds the vector.")] = "vector",
) -> None:
    """Send the items of FILE, batch by batch.

    An id that exists is replaced, equal items are left alone. A line is an object with id, text and/or vector, and
    metadata; so is a row of a table, with metadata as JSON text. Rows of a matrix get their number, from 0, as id.
    Progress goes to stderr, as JSON lines where that is no terminal. Ctrl-C leaves what was committed; the same command
    again goes on. Exit code 0: all kept; 3: some rejected, of which the first ten are named with their line; 1: error.
    """
    from service.upload import SUFFIXES, Fields, Source, Tally, UnreadableFile, upload

    if not file.name.endswith(SUFFIXES):
        raise typer.BadParameter(f"{file} ends in none of {', '.join(SUFFIXES)}", param_hint="FILE")
    if vectors is not None and file.name.endswith((".npy", ".parquet")):
        raise typer.BadParameter("a matrix of vectors goes beside lines only", param_hint="--vectors")
    tally, code, began = Tally(), 0, time.monotonic()
    unit = "line"
    try:
        source = Source(file, vectors, Fields(id_field, text_field, vector_field))
        unit = source.unit
        with connected(url) as client:
            client.ready()
            with Progress(f"ingest {file.name}", source.total, "items") as progress:
                upload(client, collection, source, batch, tally, progress.to)
    except KeyboardInterrupt:
        typer.echo(f"stopped: {tally.kept:,} items are committed; the same command again goes on", err=True)
        code = 130
    except (ClientError, UnreadableFile) as error:
        typer.echo(f"codewell: {shown(str(error), 1_000)}", err=True)
        code = 1
    for number, reason in tally.rejections:
        typer.echo(f"{file}: {unit} {number}: {shown(reason, 300)}", err=True)
    if tally.rejected > len(tally.rejections):
        typer.echo(f"... and {tally.rejected - len(tally.rejections):,} more were rejected", err=True)
    summary = {"collection": collection, **tally.counts, "rejected": tally.rejected, "shortened": tally.shortened}
    print_summary(summary | {"seconds": round(time.monotonic() - began, 2)})
    raise typer.Exit(code or (3 if tally.rejected else 0))


@app.command()
def train(
    collection: CollectionName = "default",
    url: Url = None,
    kind: Annotated[
        Literal["dense", "variational", "sparse", "binary", "residual"] | None,
        typer.Option(help="Kind of autoencoder, with its defaults, instead of the collection's own."),
    ] = None,
    size: Annotated[int | None, typer.Option("--bytes", min=1, help="Bytes of a code, at most.")] = None,
    factory: Annotated[
        str | None, typer.Option(help="Instead of an autoencoder, FAISS's quantiser of this name: OPQ32_192,PQ32x8.")
    ] = None,
    contract: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECALL=LEAST",
            help="Publish only what keeps it, such as recall@10=0.9; also recall@1 and recall@100, each by an option.",
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="Most bytes that the contract allows a code; also --bytes, but where a plan chooses."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the vectors, at most.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Ends training after this long.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed and vectors: same codec.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Folder for the training's pictures, made if need be."),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and leave it.")] = False,
) -> None:
    """Train a codec on a collection and publish it.

    Search and ingest go on meanwhile. Prints what was measured before publishing. Ctrl-C only stops watching: the job
    goes on. Exit code 1: the job failed or was cancelled, or the codec did not keep its contract and was not published.
    """
    from service.watch import asked_codec, asked_contract, begun, saved_pictures

    if factory is not None and (kind is not None or size is not None):
        raise typer.BadParameter("it says kind and bytes itself: not with --kind or --bytes", param_hint="--factory")
    if plot is not None:
        if no_wait:
            raise typer.BadParameter(
                "pictures come when the training has ended: not with --no-wait", param_hint="--plot"
            )
        try:
            plot.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"the folder cannot be made: {error}", param_hint="--plot") from error
    training = {"epochs": epochs, "minutes": minutes, "seed": seed}
    body: dict[str, Any] = {"training": {name: value for name, value in training.items() if value is not None}}
    try:
        wanted = asked_contract(contract or [], max_bytes)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--contract") from error
    body |= {"contract": wanted} if wanted else {}
    with connected(url) as client:
        if factory is not None:
            body["codec"] = {"kind": "faiss", "factory": factory}
        elif (codec := asked_codec(client.collection(collection)["codec"], kind, size, max_bytes)) is not None:
            body["codec"] = codec
        job = begun(client, collection, body)
        if no_wait:
            typer.echo(job["id"])
            return
        job = ended(client, job, f"train {collection}")
        pictures = None if plot is None else saved_pictures(client, job, plot)
    result = job["result"]
    if not sys.stdout.isatty():
        said = {"job": job["id"], "state": job["state"], "generation": result["generation"]}
        drawn = {} if pictures is None else {"pictures": [str(path) for path in pictures]}
        typer.echo(json.dumps(said | {"seconds": result["seconds"]} | drawn | {"certificate": result["certificate"]}))
        return
    typer.echo(f"generation {result['generation']} is published, {result['seconds']:.1f} s")
    print_certificate(result["certificate"])
    if pictures:
        typer.echo(f"pictures in {plot}: {', '.join(path.name for path in pictures)}")


@app.command()
def rollback(
    collection: CollectionName = "default",
    url: Url = None,
    generation: Annotated[
        int | None, typer.Option(min=1, help="One that is kept; without it, the one published last before this one.")
    ] = None,
) -> None:
    """Go back to a codec that was published before.

    Items that came since get their codes first, while search and ingest go on. Done twice, it leaves the collection
    where it was. Exit code 1: no such codec is kept, or the job failed.
    """
    with connected(url) as client:
        job = ended(client, client.rollback(collection, generation), f"rollback {collection}")
    result = job["result"]
    if sys.stdout.isatty():
        typer.echo(f"generation {result['generation']} is published instead of {result['before']}")
    else:
        typer.echo(json.dumps({"job": job["id"], "state": job["state"]} | result))


@app.command()
def certificate(collection: CollectionName = "default", url: Url = None, as_json: Json = False) -> None:
    """Show what was measured of a collection's codec before it was published.

    Exit code 1: nothing is published yet.
    """
    with connected(url) as client:
        told = client.certificate(collection)
    if as_json:
        typer.echo(json.dumps(told))
        return
    published = datetime.fromtimestamp(told["published_at"]).astimezone()
    typer.echo(f"generation {told['generation']} of {told['collection']}, published {published:%Y-%m-%d %H:%M %Z}")
    print_certificate(told["certificate"])


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What to look for.")] = None,
    item_id: Annotated[str | None, typer.Option("--id", help="Instead of a text: more like this item.")] = None,
    collection: CollectionName = "default",
    url: Url = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Hits wanted.")] = 10,
    mode: Annotated[
        Literal["vector", "text", "hybrid"], typer.Option(help="What ranks: vectors, the words of TEXT, or both.")
    ] = "vector",
    index: Annotated[
        Literal["faiss", "buckets", "exact"], typer.Option(help="What finds the shortlist; exact reads every original.")
    ] = "faiss",
    oversample: Annotated[
        int | None,
        typer.Option(min=1, help="The shortlist has k times as many items; without it, what the codec was tuned to."),
    ] = None,
    scan: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, help="Share of residual codes that FAISS looks at; without it, the tuned one."),
    ] = None,
    probes: Annotated[int | None, typer.Option(min=1, help="Hash buckets to look into; of the index buckets.")] = None,
    stage: Annotated[
        Literal["shortlist", "refine", "rescore"] | None,
        typer.Option(help="Where to stop; rescore, the default where originals are kept, reads them."),
    ] = None,
    wanted: Annotated[
        str | None,
        typer.Option("--filter", metavar="JSON", help='What metadata must be like: \'{"year": {"$gte": 2020}}\'.'),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the items nearest to TEXT, or to the item --id.

    Prints rank, score, id and text, best first; higher scores are better.
    """
    if (text is None) == (item_id is None):
        raise typer.BadParameter("give either a text or --id", param_hint="TEXT")
    asked = {"text": text} if text is not None else {"id": item_id}
    body: dict[str, Any] = {"collection": collection, "k": k, "index": index} | asked
    plan = {"oversample": oversample, "scan": scan, "probes": probes, "stage": stage}
    body |= {name: value for name, value in plan.items() if value is not None}
    body |= {"mode": mode} if mode != "vector" else {}
    if wanted is not None:
        try:
            body["filter"] = json.loads(wanted)
        except ValueError as error:
            raise typer.BadParameter(f"that is no JSON: {error}", param_hint="--filter") from error
    with connected(url) as client:
        answer = client.search(body)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    print_hits(answer)


@app.command()
def status(url: Url = None, as_json: Json = False) -> None:
    """Show collections, newest jobs and readiness.

    Exit code 1: the server is not ready, or wants another API key.
    """
    client = connected(url)
    told: dict[str, Any] = {"url": client.url, "ready": False, "detail": None, "collections": [], "jobs": []}
    with client:
        try:
            client.ready()
            told["ready"] = True
            told |= {"collections": client.collections(), "jobs": client.jobs()}
        except ClientError as error:
            told["detail"] = str(error)
    if as_json:
        typer.echo(json.dumps(told))
        raise typer.Exit(0 if told["detail"] is None else 1)
    if told["detail"] is not None:
        _fail(told["detail"] if told["ready"] else f"not ready: {told['detail']}")
    print_status(told)


def _built(generation: str) -> Path:
    from service.builds.command import Steps
    from service.builds.remote_folder import fetched
    from service.errors import CodewellError

    try:
        with Steps() as steps:
            folder = fetched(generation, steps.to)
    except (CodewellError, OSError) as error:
        _fail(str(error))
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is no folder", param_hint="--generation")
    return folder


def _fail(message: str) -> NoReturn:
    typer.echo(f"codewell: {shown(message, 1_000)}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
