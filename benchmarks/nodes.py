"""Ray nodes on one machine: each a network namespace of its own on a bridge. As root, on Linux.

Loopback would not do: all nodes would have one address.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NODES, BRIDGE, PORT = 3, "codewell-ray", 6379
RAY = str(Path(sys.executable).with_name("ray"))


def address(node: int) -> str:
    """Of a node, from 1; the first is the head."""
    return f"10.78.0.{node}"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def within(node: int, *command: str) -> list[str]:
    """A command as that node runs it."""
    return ["ip", "netns", "exec", f"{BRIDGE}-{node}", *command]


@contextmanager
def network() -> Iterator[None]:
    """Namespaces on a bridge that this process reaches too."""
    try:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", "10.78.0.254/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for node in range(1, NODES + 1):
            space, link = f"{BRIDGE}-{node}", f"cw-ray-{node}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", link, "master", BRIDGE, "up")
            run("ip", "-n", space, "addr", "add", f"{address(node)}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
        yield
    finally:
        for node in range(1, NODES + 1):
            kill(node)
            # A namespace, and its link with it, stays for as long as the last of its processes.
            subprocess.run(["ip", "link", "del", f"cw-ray-{node}"], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", f"{BRIDGE}-{node}"], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)


def start(node: int, cpus: int) -> None:
    """Starts Ray there; the head first."""
    where = (
        ["--head", f"--port={PORT}", "--include-dashboard=false"] if node == 1 else [f"--address={address(1)}:{PORT}"]
    )
    options = [f"--node-ip-address={address(node)}", f"--num-cpus={cpus}", "--object-store-memory=200000000"]
    environment = os.environ | {"RAY_DISABLE_USAGE_STATS": "1", "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    subprocess.run(within(node, RAY, "start", *where, *options), env=environment, check=True, capture_output=True)


def kill(node: int) -> None:
    """SIGKILL to every process of the node."""
    found = subprocess.run(["ip", "netns", "pids", f"{BRIDGE}-{node}"], capture_output=True, text=True, check=False)
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
