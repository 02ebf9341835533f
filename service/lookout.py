"""Looks how far items and queries have drifted, tells of it, and begins what a policy asks for; logs queries where it
may. Knows no HTTP.
"""

import logging
import time
from threading import Event, Thread
from typing import IO

from service.catalog import Catalog
from service.errors import CodewellError, CollectionNotFound
from service.files import locked
from service.jobs import Jobs
from service.metrics import Metrics
from service.notices import Notices
from service.retrain import RetrainSpec
from service.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 2
EVERYTHING_SECONDS = 60
"""Between two looks at collections without a policy, for nobody waits for their figures; and between two times that
queries are logged.
"""


class Lookout:
    """A thread that looks at the drift of the collections that have a policy, and of those that are in use here.

    Of the processes over one folder of jobs the one with the lock looks. Those of other machines look as well: that
    one training begins is for the database to say.
    """

    def __init__(self, settings: Settings, catalog: Catalog, jobs: Jobs, metrics: Metrics, notices: Notices) -> None:
        self._path = settings.jobs_dir / "lookout.lock"
        self._catalog = catalog
        self._jobs = jobs
        self._metrics = metrics
        self._notices = notices
        self._lock: IO[str] | None = None
        self._stopping = Event()
        self._failing: set[str] = set()
        self._everything_at = self._log_at = 0.0
        self._logging: dict[int, int] = {}
        """Collections whose queries might be logged the last time, and their epochs."""
        self._told: dict[str, int] = {}
        """Collections of whose drift the metrics were told."""
        self._thread = Thread(target=self._run, name="lookout", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the look under way."""
        self._stopping.set()
        self._thread.join()
        if self._lock is not None:
            self._lock.close()

    def _run(self) -> None:
        failed = False
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._log_queries()
                if self._lock is None:
                    self._lock = locked(self._path, wait=False)
                if self._lock is not None:
                    self._look()
                failed = False
            except Exception:
                # A database that is away comes back.
                if not failed:
                    log.exception("could not look for drift; going on trying")
                failed = True

    def _log_queries(self) -> None:
        """Of those that this process was asked: every process does so."""
        if time.monotonic() < self._log_at:
            return
        self._log_at = time.monotonic() + EVERYTHING_SECONDS
        before, self._logging = self._logging, self._catalog.logged()
        for collection in self._catalog.opened():
            epoch = self._logging.get(collection.id)
            try:
                # Not what was asked before somebody agreed: that was before the first look at this epoch.
                collection.log_queries(epoch if epoch == before.get(collection.id) else None)
            except CodewellError as error:
                log.warning("queries of %s are not logged this time: %s", collection.name, error)

    def _look(self) -> None:
        opened = {collection.name: collection.id for collection in self._catalog.opened()}
        for name in [name for name, known in self._told.items() if opened.get(name) != known]:
            del self._told[name]  # deleted, and perhaps made anew
            self._metrics.drifted(name, None)
        policies = self._catalog.retrained()
        names = set(policies)
        if time.monotonic() >= self._everything_at:
            self._everything_at = time.monotonic() + EVERYTHING_SECONDS
            names |= opened.keys()
        for name in names:
            if self._stopping.is_set():
                return
            try:
                self._look_at(name, policies.get(name))
                self._failing.discard(name)
            except CollectionNotFound:
                continue  # deleted meanwhile
            except Exception:
                # One collection whose codec cannot be read, say, must not hold back the others.
                if name not in self._failing:
                    log.exception("could not look for drift in %s; going on trying", name)
                self._failing.add(name)

    def _look_at(self, name: str, policy: RetrainSpec | None) -> None:
        collection = self._catalog.open(name)
        look = collection.looked()  # reads items only where enough of them have changed
        self._metrics.drifted(name, None if look is None else look.drift)
        self._told[name] = collection.id
        if look is None:
            return
        self._notices.drifted(collection.id, look)
        if policy is None or not policy.is_met(look.drift):
            return
        if (job_id := self._jobs.submit_retraining(collection.id, look, time.time())) is not None:
            log.info("job %s trains %s again: its newest items are %s", job_id, name, look.drift.status)
