"""Encodes shards on the nodes of a Ray cluster. Knows no order of shards.

A task reads its part of an input, which every node finds under the same path, and answers with the shard's bytes; the
build's own process writes them. So a node keeps nothing, and one that is lost costs the tasks it was at: Ray gives them
to another.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from models import Codec, load_codec
from service.builds.memory import peak_bytes
from service.builds.shard import Task, encoded
from service.cluster.connection import check_version, connected, cpus, first_line, node
from service.errors import BuildError, ClusterError, CodewellError
from service.files import published

AHEAD = 2
"""Tasks for each CPU, so that none waits for this process; more would only fill its memory with shards."""
ATTEMPTS = 10
"""For nodes that are lost. An error of a task's own is told at once."""
LOOK_SECONDS = 1.0
"""How soon a node that joins gets work."""

_loaded: dict[str, Codec] = {}
"""Of a worker's process: the codec it has had last, by fingerprint."""


def encode_on_cluster(tasks: Sequence[Task], codec: Codec, address: str, done: Callable[[int], None]) -> int:
    """Writes every task's shard, telling `done` the rows of each; returns the most bytes a worker took, 0 without one.

    `done` may raise to end the work: what is written stays. So it is with Ctrl-C.

    Raises:
        ClusterError: no cluster there, or a node has another Codewell or lacks an input.
        BuildError: an input changed, or nodes were lost too often.
    """
    if not tasks:
        return 0
    ray = connected(address)
    remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS)(_encoded)
    saved, asked = ray.put(codec.to_bytes()), (codec.fingerprint, version("codewell"))
    waiting, under_way, most = iter(tasks), dict[Any, Task](), 0
    try:
        while True:
            while len(under_way) < AHEAD * cpus(ray) and (task := next(waiting, None)) is not None:
                under_way[remote.remote(task, saved, *asked)] = task
            if not under_way:
                return most
            ready, _ = ray.wait(list(under_way), timeout=LOOK_SECONDS)
            for reference in ready:
                task = under_way.pop(reference)
                content, peak = _fetched(ray, reference)
                with published(task.path) as draft:
                    draft.write_bytes(content)
                most = max(most, peak)
                done(len(task.part))
    finally:
        for reference in under_way:
            with suppress(Exception):  # of a cluster that is gone
                ray.cancel(reference, force=True)


def _fetched(ray: Any, reference: Any) -> tuple[bytes, int]:
    try:
        answer: tuple[bytes, int] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CodewellError):
            raise error.cause from None
        raise ClusterError(f"a node cannot encode: {first_line(error.cause)}") from error
    except ray.exceptions.RayError as error:
        raise BuildError(
            f"the cluster lost {ATTEMPTS} nodes or workers at the same shard, or itself (was memory short?): "
            f"{first_line(error)}; the same command goes on from here"
        ) from error
    return answer


def _encoded(task: Task, saved: bytes, fingerprint: str, wanted: str) -> tuple[bytes, int]:
    """Runs on a node: the shard's bytes, and the most that its process has taken."""
    import torch

    check_version(wanted)
    if not task.source.unchanged():
        raise ClusterError(
            f"the node {node()} does not find {task.source.path} as the build has read it; put inputs where all nodes "
            "have them under the same path"
        )
    if fingerprint not in _loaded:
        torch.set_num_threads(1)
        _loaded.clear()
        _loaded[fingerprint] = load_codec(saved)
    return encoded(task, _loaded[fingerprint]), peak_bytes()
