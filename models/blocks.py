"""Work on many vectors, cut into blocks that threads take side by side. Knows no model."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

CPU = torch.device("cpu")
CUDA_BLOCKS = 16
"""Of a processor's blocks, which suit its cache, CUDA takes as many at once: it is fast where there is much to do."""


def block_size(size: int, device: torch.device) -> int:
    """Rows of a block, given those of a processor's."""
    return size if device == CPU else CUDA_BLOCKS * size


def mapped(
    work: Callable[[slice], T],
    n: int,
    size: int,
    threads: int,
    between: Callable[[], None] = lambda: None,
    device: torch.device = CPU,
) -> list[T]:
    """`work` of every block of at most `size` of n rows, in order, `threads` at once; on CUDA one larger block at once.

    A thread a block, and one core each: where other processes want the cores as well, an operation that is itself
    spread over threads waits for the slowest of them, every time. `between` is called after each block, by the calling
    thread; what it raises ends the work.
    """
    size = block_size(size, device)
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    done = []
    if threads == 1 or len(blocks) < 2 or device != CPU:
        for block in blocks:
            done.append(work(block))
            between()
        return done
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for result in pool.map(work, blocks):
            done.append(result)
            between()
        return done
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # what a thread says of itself also holds for threads that begin later
