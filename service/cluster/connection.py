"""A Ray cluster, connected to. Knows no task and no shard."""

import logging
import os
import signal
import socket
import threading
from importlib.metadata import version
from typing import Any

from service.errors import ClusterError

ANSWER_SECONDS = 5
"""For a cluster to take a connection."""


def connected(address: str) -> Any:
    """The module `ray`, connected to the cluster at `auto`, HOST:PORT or ray://HOST:PORT; once for each process.

    Raises:
        ClusterError: the extra is not installed, or no cluster answers there.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray does from 2.61 on, without its warning
    try:
        import ray
    except ImportError:
        raise ClusterError("Ray is not installed: pip install 'codewell[ray]'", field="--ray") from None
    if not ray.is_initialized():
        ending = signal.getsignal(signal.SIGTERM)
        try:
            if ":" in address:  # what takes Ray minutes to find out
                host, port = address.removeprefix("ray://").rsplit(":", 1)
                socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(f"no Ray cluster answers at {address}: {first_line(error)}", field="--ray") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ending)  # Ray would have its own end the process at once
    return ray


def cpus(ray: Any) -> int:
    """CPUs of all nodes together, at this moment."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def free_cpus(ray: Any) -> int:
    """Those that nothing has been placed on."""
    return int(ray.available_resources().get("CPU", 0))


def check_version(wanted: str) -> None:
    """Raises ClusterError where this node has another Codewell than the one that asks it."""
    if (own := version("codewell")) != wanted:
        raise ClusterError(
            f"the node {node()} has Codewell {own}, and {wanted} asks it: install one of them everywhere"
        )


def node() -> str:
    """The address of this machine in its cluster."""
    import ray

    return str(ray.util.get_node_ip_address())


def first_line(error: BaseException) -> str:
    """What an error says, without its traceback."""
    return (str(error) or repr(error)).strip().splitlines()[0]
