"""How much RAM this process has taken at most. Knows nothing else."""

import re
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most resident bytes so far. Linux's own count begins anew with a program; getrusage's is inherited."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found is not None:
        return 1024 * int(found.group(1))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
