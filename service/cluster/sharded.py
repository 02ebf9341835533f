"""A built folder whose runs are searched on a cluster, merged to one answer. Knows no database and no HTTP."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from service.builds.manifest import Manifest
from service.cluster.connection import first_line
from service.cluster.deployment import Deployment
from service.cluster.placement import Placement
from service.deadline import Deadline
from service.errors import ClusterError, CodewellError, OutOfTime, Unavailable
from service.query import Query
from service.read_only import Found
from service.search import Probed

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""For a run where others have answered,"""
SKEW = 3
"""or as many times as long as they took, if that is more."""
TURN_SECONDS = 0.02
"""What is waited for one run before the next is looked at: one that is lost must not hide how soon others answered."""
POLL_SECONDS = 0.001
"""What is waited for an answer that may be there."""
LOOK_SECONDS = 1.0
"""Between two looks at runs that are away, and how soon one has to answer."""


class ShardedCollection:
    """Thread-safe. A run that does not answer is left out, and the answer says so; it is not waited for again until it
    answers a look in the background.
    """

    def __init__(self, name: str, folder: Path, manifest: Manifest, placement: Placement) -> None:
        """Raises: ClusterError."""
        self.name = name
        self.manifest = manifest
        self.certificate: Mapping[str, Any] = manifest.certificate(folder)
        self._deployment = Deployment(folder, manifest, placement)
        self._away = set[int]()
        self._changing = Lock()
        self._closing = Event()
        Thread(target=self._look, name="shards-away", daemon=True).start()

    def close(self) -> None:
        """Frees what it takes of the cluster."""
        self._closing.set()
        self._deployment.remove()

    def search(self, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        """The items nearest to each query's vector, of all runs that answer.

        Raises:
            InvalidInput: one asks for what codes and ids cannot tell; OutOfTime: no run has found anything in time;
            Unavailable: none is there.
        """
        count = len(self._deployment.shares)
        answers = self._answers([number for number in range(count) if number not in self._away], queries, deadline)
        if not answers:
            if deadline.over:
                raise deadline.missed()
            raise Unavailable("no shard answers: its nodes are lost, or start again")
        why = self._why([number for number in range(count) if number not in answers])
        parts = [answers[number] for number in sorted(answers)]
        return [merged(query, [part[place] for part in parts], why) for place, query in enumerate(queries)]

    def _answers(self, numbers: Sequence[int], queries: Sequence[Query], deadline: Deadline) -> dict[int, list[Found]]:
        """What each run has found. One that is lost, or takes many times as long as others, is noted as away."""
        handles, twice = self._deployment.shares, self._deployment.replicas > 1
        waiting, answers = dict[int, Asked](), dict[int, list[Found]]()
        began, slowest = time.monotonic(), 0.0
        for number in numbers:
            try:
                waiting[number] = Asked(handles[number], list(queries), deadline, twice)
            except ClusterError as error:
                self._note_away(number, str(error))
        end = began + PATIENCE_SECONDS
        while waiting and not deadline.over:
            for number, asked in list(waiting.items()):
                try:
                    found = asked.answer(min(end - time.monotonic(), deadline.left or 0.0, TURN_SECONDS))
                except OutOfTime:
                    del waiting[number]
                    continue
                except ClusterError as error:
                    self._note_away(number, str(error))
                    del waiting[number]
                    continue
                if found is not None:
                    answers[number], slowest = found, time.monotonic() - began
                    del waiting[number]
            if (now := time.monotonic()) < end:
                continue
            asked_again = [asked.again() for asked in waiting.values()]
            if answers and not any(asked_again) and now - began > SKEW * slowest:
                break
            end = max(now + PATIENCE_SECONDS, began + SKEW * slowest)
        for number, asked in waiting.items():
            if answers:
                self._note_away(number, "it takes too long")
            asked.cancel()
        return answers

    def _note_away(self, number: int, reason: str) -> None:
        with self._changing:
            if number not in self._away:
                log.warning("shard %d does not answer, going on without it: %s", number, reason)
            self._away.add(number)

    def _why(self, missing: Sequence[int]) -> str | None:
        if not missing:
            return None
        which = ", ".join(str(number) for number in missing)
        return (
            f"of {len(self._deployment.shares)} shards {len(missing)} did not answer ({which}): their items are missing"
        )

    def _look(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            for number in sorted(self._away):
                try:
                    self._deployment.shares[number].check.remote().result(timeout_s=LOOK_SECONDS)
                except Exception:  # noqa: S112 - it is away still
                    continue
                log.warning("shard %d answers again", number)
                with self._changing:
                    self._away.discard(number)


class Asked:
    """A request to one run, and one to another replica of it where the first does not answer. For one thread."""

    def __init__(self, handle: Any, queries: list[Query], deadline: Deadline, twice: bool) -> None:
        """`twice` where there are several replicas.

        Raises:
            ClusterError: the run is not on the cluster any more.
        """
        self._handle = handle
        self._queries = queries
        self._deadline = deadline
        self._twice = twice
        self._asked = [self._ask()]
        self._lost = 0

    def answer(self, seconds: float) -> list[Found] | None:
        """What the run has found; None where it has not answered within so many seconds.

        Raises:
            ClusterError: two replicas were lost, one after the other. InvalidInput, OutOfTime: as it says.
        """
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        for one in list(self._asked):
            try:
                found: list[Found] = one.result(timeout_s=max(seconds / len(self._asked), POLL_SECONDS))
            except RayTaskError as error:
                if isinstance(error.cause, CodewellError):
                    raise error.cause from None
                raise ClusterError(first_line(error.cause)) from error
            except TimeoutError:  # Ray's own is a RayError too
                continue
            except (RayError, RayServeException) as error:
                self._asked.remove(one)
                self._lost += 1
                if self._lost > 1:
                    raise ClusterError(first_line(error)) from error
                self._asked.append(self._ask())
            else:
                return found
        return None

    def again(self) -> bool:
        """Asks another replica as well; false where that was done, or there is none."""
        if not self._twice or len(self._asked) + self._lost > 1:
            return False
        try:
            self._asked.append(self._ask())
        except ClusterError:
            return False
        return True

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        for one in self._asked:
            one.cancel()

    def _ask(self) -> Any:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            return self._handle.search.remote(self._queries, self._deadline.left)
        except (RayError, RayServeException) as error:
            raise ClusterError(first_line(error)) from error


def merged(query: Query, parts: Sequence[Found], why: str | None) -> Found:
    """The k best of all parts; of equal scores those of the earlier part, whose rows are older. That one part has fewer
    than k is said only where all together have.
    """
    hits = sorted((hit for part in parts for hit in part.hits), key=lambda hit: -hit[1])[: query.plan.k]
    cut = next((one for one in (why, *(part.cut for part in parts)) if one is not None), None)
    fewer = next((part.fewer for part in parts if part.fewer is not None), None)
    probed = _added(part.probed for part in parts)
    return Found(hits, cut, probed, fewer if len(hits) < query.plan.k else None)


def _added(parts: Iterable[Probed | None]) -> Probed | None:
    probed = [one for one in parts if one is not None]
    if not probed:
        return None
    radii = [one.radius for one in probed if one.radius is not None]
    return Probed(
        probed[0].tables,
        sum(one.probes for one in probed),
        sum(one.candidates for one in probed),
        min(radii) if len(radii) == len(probed) else None,
    )
