"""A training as the command line sees it: begun, followed to its end, its pictures kept. Knows only the REST API."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from service.client import Client, ClientError, ServerRefused
from service.console import Progress, shown

LOOK_SECONDS = 0.5
"""Between two looks at a job."""
ACTIVE = ("queued", "running")

Job = Mapping[str, Any]


def asked_codec(own: Mapping[str, Any], kind: str | None, size: int | None, most: int | None) -> dict[str, Any] | None:
    """The codec of a training: the collection's own, or another kind with its defaults, in as many bytes as asked, or
    else as the contract allows at most. None is the collection's own as it is: also where only the contract has bytes,
    and a plan chooses, or FAISS's factory says its own.
    """
    if kind is None and size is None and (most is None or own["kind"] in ("auto", "faiss")):
        return None
    size = size or most
    if own["kind"] == "auto":
        own = {"kind": "dense"}
    if kind is not None and kind != own["kind"]:
        return {"kind": kind} | ({} if size is None else {"bytes": size})
    if size is None:
        return dict(own)
    overridden = {"k"} if own["kind"] == "sparse" else {"latents", "latent_type"}  # what follows from the bytes
    return {name: value for name, value in own.items() if name not in overridden} | {"bytes": size}


def asked_contract(conditions: Sequence[str], max_bytes: int | None) -> dict[str, float]:
    """The contract of `recall@10=0.9` and the like, to which the server says what it can ask for.

    Raises:
        ValueError: one is no name and number.
    """
    contract: dict[str, float] = {}
    for condition in conditions:
        name, _, least = condition.partition("=")
        try:
            contract[name] = float(least)
        except ValueError:
            raise ValueError(f"{condition!r} is not like recall@10=0.9") from None
    return contract if max_bytes is None else contract | {"max_bytes": max_bytes}


def begun(client: Client, collection: str, body: Mapping[str, Any]) -> Job:
    """A new training, or the one that is under way already: with CODEWELL_TRAIN_AT a collection begins by itself.

    Where a codec or a contract is asked for, another training will not do.
    """
    try:
        return client.train(collection, body)
    except ServerRefused as refused:
        name = client.collection(collection)["name"]
        jobs = [job for job in client.jobs() if job["collection"] == name and job["kind"] == "train"]
        active = [job for job in jobs if job["state"] in ACTIVE]
        if refused.status != 409 or not active or body.keys() & {"codec", "contract"}:
            raise
        sys.stderr.write(f"a training is under way already; following job {active[0]['id']}\n")
        return active[0]


def followed(client: Client, job: Job, label: str) -> Job:
    """The job once it has ended; shows how far it is meanwhile."""
    with Progress(label, 1) as progress:
        while job["state"] in ACTIVE:
            progress.to(job["progress"], job["message"] or job["state"])
            time.sleep(LOOK_SECONDS)
            job = client.job(job["id"])
        progress.to(job["progress"], job["message"])
    return job


def ended(client: Client, job: Job, label: str) -> Job:
    """The job once it has succeeded; what was measured of one that did not is printed.

    Raises:
        ClientError: it did not. typer.Exit: Ctrl-C.
    """
    try:
        job = followed(client, job, label)
    except (KeyboardInterrupt, ClientError) as error:
        typer.echo(f"\njob {job['id']} was not cancelled: `codewell status` shows how far it is", err=True)
        if isinstance(error, ClientError):
            raise
        raise typer.Exit(130) from None
    if job["state"] != "succeeded":
        if job["result"] is not None:
            typer.echo(
                json.dumps({"job": job["id"], "state": job["state"], "certificate": job["result"]["certificate"]})
            )
        raise ClientError(f"job {job['id']} {job['state']}: {job['message']}")
    return job


def connected(url: str | None) -> Client:
    """A client of that server or, without one, of the environment's, with the environment's key."""
    from service.settings import ClientSettings

    settings = ClientSettings()
    return Client(url or settings.url, None if settings.api_key is None else settings.api_key.get_secret_value())


def saved_pictures(client: Client, job: Job, folder: Path) -> list[Path]:
    """Writes each of the job's pictures into `folder`, as NAME.png; says on stderr why there is none.

    Raises:
        ClientError: a picture cannot be fetched or written.
    """
    result = job["result"]
    if result.get("no_pictures"):
        sys.stderr.write(f"no pictures: {shown(result['no_pictures'], 300)}\n")
    # A name becomes a file's: whatever a server says, it stays within the folder.
    paths = {name: folder / f"{Path(name).name}.png" for name in result.get("pictures", [])}
    try:
        for name, path in paths.items():
            path.write_bytes(client.picture(job["id"], name))
    except OSError as error:
        raise ClientError(f"the pictures of job {job['id']} cannot be written: {error}") from error
    return list(paths.values())
