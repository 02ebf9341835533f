"""What processes and all that they started take of the machine. Knows no server. Linux."""

import os
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """The living processes among the roots and their descendants, ascending."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found: set[int] = set()
    waiting = [pid for pid in roots if _stat(pid) is not None]
    while waiting:
        if (pid := waiting.pop()) not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return sorted(found)


def cpu_seconds(pids: Iterable[int]) -> float:
    """That those of them that live have used so far, in user and kernel."""
    return sum(sum(map(int, fields[11:13])) for pid in pids if (fields := _stat(pid)) is not None) / TICKS


def _stat(pid: int) -> list[str] | None:
    """The fields after the command's name, from the state on; none where the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields
