"""What a serving process sets up for itself before it answers."""

import os
import platform
import re
import subprocess
import sys

import pytest

COUNTED = """
import ctypes, sys, threading
from service.serving import share_heaps

share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(8)

def allocate() -> None:
    together.wait()
    libc.malloc(ctypes.c_size_t(1_000))
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives threads heaps of their own")
@pytest.mark.parametrize(("given", "heaps"), [({}, 2), ({"MALLOC_ARENA_MAX": "5"}, 5)])
def test_threads_share_two_heaps_or_as_many_as_the_environment_says(given: dict[str, str], heaps: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | given
    told = subprocess.run([sys.executable, "-c", COUNTED], env=environment, capture_output=True, text=True, check=True)
    assert len(re.findall("<heap nr=", told.stdout)) == heaps
