"""One of the runs that a built folder is cut into, searched on a node of a cluster. Knows no other run."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from threading import BoundedSemaphore

from service.builds.generation import Generation
from service.cluster.connection import check_version, node
from service.deadline import Deadline
from service.errors import ClusterError
from service.query import Query
from service.read_only import Found, ReadOnlyCollection


class Share:
    """A replica of run `number` of `of`: its codes in this process's RAM, ids in the folder's files."""

    def __init__(self, folder: str, build: str, number: int, of: int, wanted: str) -> None:
        """`build` is the generation that was asked for, `wanted` the version of Codewell that asks.

        Raises:
            ClusterError: this node finds another build there, or has another Codewell. DamagedGeneration.
        """
        import torch

        check_version(wanted)
        torch.set_num_threads(1)
        # Whoever deploys has compared every file with its checksum; a node that sees others sees another manifest.
        generation = Generation.open(Path(folder), checked=True)
        if generation.manifest.generation != build:
            raise ClusterError(f"the node {node()} finds {generation.manifest.generation} in {folder}, not {build}")
        self._collection = ReadOnlyCollection(folder, generation.share(number, of), BoundedSemaphore(1))

    async def search(self, queries: Sequence[Query], seconds: float) -> list[Found]:
        """The items of this run nearest to each query."""
        return await asyncio.to_thread(self._collection.search, queries, Deadline(seconds))

    async def check(self) -> None:
        """Answers."""
