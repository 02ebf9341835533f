"""A real server for a benchmark, and what every benchmark asks of one."""

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models import Vectors
from service.client import Client, ServerRefused, ServerUnreachable

START_SECONDS = 60


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[str]:
    """The URL of a `codewell serve` process over `folder` that is ready, with settings as keywords; ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
    defaults = {"DATA_DIR": str(folder), "PORT": port, "TRAIN_AT": "0", "LOG_LEVEL": "error"}
    environment |= {f"CODEWELL_{name}": value for name, value in (defaults | settings).items()}
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "serve"], env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        with Client(url) as client:
            _until_ready(client)
        yield url
    finally:
        process.terminate()
        process.wait()


def _until_ready(client: Client) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            client.ready()
            return
        except (ServerUnreachable, ServerRefused):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def packed(vector: Vectors) -> str:
    """A vector as requests carry it in the fewest bytes."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def trained(client: Client, collection: str, body: dict[str, Any]) -> dict[str, Any]:
    """The result of a training that must succeed."""
    job = client.train(collection, body)
    while job["state"] in ("queued", "running"):
        time.sleep(0.2)
        job = client.job(job["id"])
    assert job["state"] == "succeeded", job
    result: dict[str, Any] = job["result"]
    return result
