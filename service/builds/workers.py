"""Encodes shards side by side in spawned processes, or here where there is one worker. Knows no order of shards."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Thread

from models import Codec, load_codec
from service.builds.memory import peak_bytes
from service.builds.shard import Task, encode
from service.errors import BuildError

_own: list[Codec] = []
"""Of a worker's process, which has one codec for its life; empty elsewhere."""


def encode_all(tasks: Sequence[Task], codec: Codec, saved: Path, workers: int, done: Callable[[int], None]) -> int:
    """Writes every task's shard, telling `done` the rows of each; returns the most bytes a worker took, 0 without one.

    `done` may raise to end the work: what is written stays. So it is with Ctrl-C. Where there is CUDA, residual codes
    are made on it by this process, whatever `workers` is.

    Raises:
        BuildError: an input changed, or a worker was killed.
    """
    if not tasks:
        return 0
    if workers == 1 or len(tasks) < 2 or (codec.kind == "residual" and _cuda()):
        import torch

        codec.threads, codec.device = torch.get_num_threads(), "auto"
        for task in tasks:
            done(encode(task, codec))
        return 0
    most = 0
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _begin, (saved,))
    try:
        for future in as_completed([pool.submit(_work, task) for task in tasks]):
            rows, peak = future.result()
            most = max(most, peak)
            done(rows)
    except BrokenProcessPool as error:
        raise BuildError(
            "a worker's process was ended from outside (was memory short?); fewer --workers or a lower --memory-gb "
            "take less, and the same command goes on from here"
        ) from error
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return most


def _cuda() -> bool:
    from models.device import device_named  # where nothing is left to encode, PyTorch need not be imported

    return device_named("auto").type == "cuda"


def _begin(saved: Path) -> None:
    """Ctrl-C is the parent's to handle; and a parent that is killed must not leave workers waiting for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    _own.append(load_codec(saved.read_bytes()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Task) -> tuple[int, int]:
    return encode(task, _own[0]), peak_bytes()
