"""A real server for a benchmark, and what every benchmark asks of one."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import Server
from models import Vectors
from service.client import Client


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[str]:
    """The URL of a server over `folder` that is ready and trains when it is asked to; ends it."""
    with Server(folder, 1, TRAIN_AT="0", LOG_LEVEL="error", **settings) as server:
        yield server.url


def packed(vector: Vectors) -> str:
    """A vector as requests carry it in the fewest bytes."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def trained(client: Client, collection: str, body: dict[str, Any]) -> dict[str, Any]:
    """The result of a training that must succeed."""
    return ended(client, client.train(collection, body))


def ended(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """The result of a job that must succeed."""
    while job["state"] in ("queued", "running"):
        time.sleep(0.2)
        job = client.job(job["id"])
    assert job["state"] == "succeeded", job
    result: dict[str, Any] = job["result"]
    return result
