"""What keeps the memory of a server of many threads as large as what it holds: glibc's heaps. Knows no server."""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from threading import Thread

ALLOCATOR = (
    # Heaps for all threads together: each would get one of its own, up to eight a core, and each keeps what was freed.
    ("MALLOC_ARENA_MAX", -8, 2),
    # What is larger stands in pages of its own, such as 4.3 MB or more that MKL has for each thread that encodes and
    # hardly touches. Once one was freed, glibc would take the next from a heap: what it leaves there when its thread
    # ends is cut up for small things, the one after stands above them, and heaps grow.
    ("MALLOC_MMAP_THRESHOLD_", -3, 4 * 1024 * 1024),
    # What is free at a heap's end goes back to the system when it is more, and to take it again costs time.
    ("MALLOC_TRIM_THRESHOLD_", -1, 32 * 1024 * 1024),
)
"""Of glibc: the variable that goes before, what mallopt calls it, and bytes or how many."""
TRIM_SECONDS = 60


def share_heaps() -> None:
    """Sets glibc's allocator to what a server of many threads needs to stay as large as it is: see ALLOCATOR."""
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return
    for name, number, value in ALLOCATOR:
        if name not in os.environ:
            mallopt(number, value)


def keep_trimmed(seconds: float = TRIM_SECONDS) -> None:
    """Starts a thread that gives free pages within the heaps back to the system now and then.

    By itself glibc gives back those at a heap's end only. What is left there by threads that ended, by snapshots and by
    bursts of large requests is used again in part, and never the same part.
    """
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is None:
        return

    def trim() -> None:
        while True:
            time.sleep(seconds)
            malloc_trim(0)

    Thread(target=trim, name="heaps", daemon=True).start()


def _of_glibc(name: str) -> Callable[..., int] | None:
    """Other C libraries, such as musl, have neither these functions nor such heaps."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
