"""Puts the runs of a built folder on a Ray cluster, each in as many replicas as asked. Knows no question."""

import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service.builds.manifest import Manifest
from service.cluster.connection import connected, cpus, first_line, free_cpus
from service.cluster.placement import Placement
from service.cluster.share import Share
from service.errors import ClusterError

AT_ONCE = 16
"""Requests that a replica is sent before others wait: it searches one after the other."""
LOOK_SECONDS = 0.5
THERE = ("RUNNING", "UNHEALTHY")
"""What Ray calls an application that answers, be it without some of its replicas;"""
ABSENT = (None, "NOT_STARTED", "DEPLOY_FAILED")
"""and one that nobody deploys."""


class _All:
    """Holds the runs together as one application; answers nothing."""

    def __init__(self, *shares: Any) -> None:
        pass


class Deployment:
    """One build of a folder on the cluster; every process that serves it shares the same replicas."""

    def __init__(self, folder: Path, manifest: Manifest, placement: Placement) -> None:
        """Deploys where nobody has, and waits until every run answers.

        Raises:
            ClusterError: no cluster there, or it has no room, or a node cannot open the folder.
        """
        self._ray = connected(placement.address)
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        self._serve = serve
        self.replicas = placement.replicas
        self.name = f"codewell-{manifest.generation}-{placement.shards}-{placement.replicas}"
        serve.start(proxy_location="Disabled")
        while (status := self._status()) not in THERE:
            if status not in ABSENT or not self._deployed(folder, manifest, placement):
                time.sleep(LOOK_SECONDS)
        self.shares = [serve.get_deployment_handle(f"share-{one}", self.name) for one in range(placement.shards)]

    def remove(self) -> None:
        """Frees the replicas, whoever else may use them."""
        self._serve.delete(self.name)

    def _status(self) -> str | None:
        told = self._serve.status().applications.get(self.name)
        return None if told is None else str(told.status.value)

    def _deployed(self, folder: Path, manifest: Manifest, placement: Placement) -> bool:
        """Deploys, unless another process does. An actor has its name once only, and ends with its owner: it is the
        lock, for to deploy what runs would replace its replicas.
        """
        try:
            lock = self._ray.remote(num_cpus=0)(_Lock).options(name=f"deploying {self.name}").remote()
        except ValueError:  # the name is taken
            return False
        try:
            if self._status() in ABSENT:
                self._check_room(placement)
                self._deploy(folder, manifest, placement)
        finally:
            self._ray.kill(lock)
        return True

    def _check_room(self, placement: Placement) -> None:
        """Ray would wait for it without a word."""
        needed, free = placement.shards * placement.replicas, free_cpus(self._ray)
        if needed > free:
            raise ClusterError(
                f"{placement.shards} shards of {placement.replicas} take {needed} CPUs, and {free} of the cluster's "
                f"{cpus(self._ray)} are free; `serve status`, of Ray, says what else is served",
                field="--shards",
            )

    def _deploy(self, folder: Path, manifest: Manifest, placement: Placement) -> None:
        serve, of = self._serve, placement.shards
        given = str(folder.resolve()), manifest.generation
        options = {"max_ongoing_requests": AT_ONCE, "num_replicas": placement.replicas}
        shares = [
            serve.deployment(Share, name=f"share-{one}", ray_actor_options={"num_cpus": 1}, **options).bind(
                *given, one, of, version("codewell")
            )
            for one in range(of)
        ]
        together = serve.deployment(_All, name="all", ray_actor_options={"num_cpus": 0})
        try:
            serve.run(together.bind(*shares), name=self.name, route_prefix=None)
        except RuntimeError as error:
            reason = self._serve.status().applications.get(self.name)
            serve.delete(self.name)
            told = "" if reason is None else f": {_why(reason)}"
            raise ClusterError(
                f"the cluster cannot serve {folder}{told or first_line(error)}", field="--ray"
            ) from error


class _Lock:
    """An actor that does nothing."""


def _why(status: Any) -> str:
    """The last line of what Ray says of the first deployment that is not healthy."""
    messages: list[str] = [one.message for one in status.deployments.values() if one.message]
    return (messages[0] if messages else str(status.message)).strip().splitlines()[-1]
