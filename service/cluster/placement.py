"""Where a built folder is searched by more than one machine. Knows nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """A cluster, and how a folder is cut for it."""

    address: str
    """Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT."""
    shards: int = 1
    """Runs of about equally many items, each on a node of its own or beside others."""
    replicas: int = 1
    """Of each run."""
