"""What a serving process sets up for itself before it answers."""

import json
import os
import platform
import re
import subprocess
import sys

import pytest

COUNTED = """
import ctypes, sys, threading
from service.heaps import share_heaps

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


USED = """
import ctypes, json, resource
from pathlib import Path
from service.heaps import share_heaps

share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def used(size: int) -> int:
    block = libc.malloc(ctypes.c_size_t(size))
    libc.memset(block, 1, size)
    return block

def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

libc.free(used(5_000_000))  # from now on glibc by itself would take such a size from a heap
before = resident()
blocks = [(used(5_000_000), used(100_000))[0] for _ in range(20)]  # the small ones stay, each above a large one
[libc.free(block) for block in blocks]
kept = resident() - before

libc.free(used(3_000_000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
[libc.free(used(3_000_000)) for _ in range(20)]
print(json.dumps([kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_what_is_large_goes_back_to_the_system_and_what_is_smaller_is_used_again() -> None:
    kept, faults = measured({})
    assert kept < 10  # MB of 100
    assert faults < 1_000  # of 20 times 733 pages


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_a_threshold_in_the_environment_goes_before() -> None:
    kept, _ = measured({"MALLOC_MMAP_THRESHOLD_": "30000000"})
    assert kept > 90  # the holes are in the heap


TRIMMED = """
import ctypes, resource, time
from service.heaps import keep_trimmed, share_heaps

share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def resident() -> float:
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

before, blocks = resident(), []
for number in range(2_000):  # every second one stays: no page at the heap's end is free
    blocks.append(libc.malloc(ctypes.c_size_t(50_000)))
    libc.memset(blocks[-1], 1, 50_000)
[libc.free(block) for block in blocks[::2]]
print(resident() - before)
keep_trimmed(0.05)
end = time.monotonic() + 20
while resident() - before > 70 and time.monotonic() < end:
    time.sleep(0.05)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such heaps")
def test_what_is_free_between_what_is_used_goes_back_too() -> None:
    told = subprocess.run([sys.executable, "-c", TRIMMED], capture_output=True, text=True, check=True)
    kept, trimmed = map(float, told.stdout.split())
    assert kept > 90  # MB of 100
    assert trimmed < 70


def measured(given: dict[str, str]) -> list[float]:
    """MB that a process keeps of what it freed, and the pages that it asked for again."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | given
    told = subprocess.run([sys.executable, "-c", USED], env=environment, capture_output=True, text=True, check=True)
    figures: list[float] = json.loads(told.stdout)
    return figures
