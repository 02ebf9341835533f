"""Work on many vectors, cut into blocks that threads take side by side. Knows no model."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def mapped(work: Callable[[slice], T], n: int, size: int) -> list[T]:
    """`work` of every block of at most `size` of n rows, in order; as many at once as torch has threads.

    A thread a block, and one core each: where other processes want the cores as well, an operation that is itself
    spread over threads waits for the slowest of them, every time.
    """
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    threads = torch.get_num_threads()
    if threads == 1:
        return [work(block) for block in blocks]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, blocks))
    finally:
        torch.set_num_threads(threads)  # what a thread says of itself also holds for threads that begin later
