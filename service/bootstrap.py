"""The one place that picks classes: settings in, a wired service out. Knows no HTTP."""

import logging
import multiprocessing
from collections.abc import Mapping
from threading import BoundedSemaphore
from types import TracebackType
from typing import TYPE_CHECKING

from service.catalog import Catalog
from service.generations import Generations
from service.job_queue import JobQueue
from service.jobs import Jobs
from service.keeper import Keeper
from service.keys import Keys
from service.lookout import Lookout
from service.metrics import Metrics
from service.notices import Notices
from service.poller import Poller
from service.profile import Profile
from service.runner import Runner
from service.scrape import Scrape
from service.settings import Settings
from service.snapshots import Snapshots
from service.store import schema
from service.store.database import Database
from service.text.encoder import TextEncoder
from service.views import Views
from service.warming import Warming
from service.webhook import Webhook

if TYPE_CHECKING:
    from service.traces import Traces

log = logging.getLogger(__name__)


class Codewell:
    """The running service without its HTTP: a context that owns the database, the threads and the jobs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        self.metrics = Metrics()
        self.traces = traces(settings)
        computing = BoundedSemaphore(settings.concurrent_searches or settings.cores_each)
        default_encoder = None if settings.encoder == "none" else settings.encoder
        snapshots = Snapshots(settings.snapshots_dir, self.database) if settings.snapshot_at else None
        self.catalog = Catalog(
            self.database,
            encoders(settings),
            computing,
            settings.max_dimension,
            default_encoder,
            snapshots,
            settings.max_collections,
            max_chunks=settings.max_chunks,
            observe=self._observe,
        )
        self.notices = Notices(self.database, wanted=settings.webhook_url is not None)
        self.jobs = Jobs(self.database, self.notices)
        self.keys = Keys(self.database)
        self.generations = Generations(self.database)
        self._runner = Runner(settings, self.database, self.jobs, JobQueue(self.database, self.notices))
        self._lookout = Lookout(settings, self.catalog, self.jobs, self.metrics, self.notices)
        self.views = Views(self.catalog, self.metrics)
        self.scrape = Scrape(self.database, self.metrics, self.views, self.notices)
        self.warming = Warming(self.catalog, snapshots)
        self._poller = Poller(self.database, self.catalog, settings.poll_ms, self.views)
        self._keeper = Keeper(self.catalog, snapshots, settings.snapshot_at) if snapshots is not None else None
        url, key = settings.webhook_url, settings.webhook_key
        self._webhook = Webhook(url, key, self.notices, settings.jobs_dir) if url is not None else None

    def __enter__(self) -> "Codewell":
        self.settings.jobs_dir.mkdir(parents=True, exist_ok=True)
        if (
            multiprocessing.parent_process() is None
        ):  # a worker's supervisor has: it must start while the database is away
            schema.upgrade(self.database)
        self._runner.start()
        self._lookout.start()
        self._poller.start()
        self.warming.start()
        if self._keeper is not None:
            self._keeper.start()
        if self._webhook is not None:
            self._webhook.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.warming.stop()
        self._lookout.stop()
        self._poller.stop()
        if self._keeper is not None:
            self._keeper.stop()
        self._runner.stop()
        if self._webhook is not None:
            self._webhook.stop()
        self.database.close()
        if self.traces is not None:
            self.traces.close()

    def _observe(self, profile: Profile) -> None:
        self.metrics.observe(profile)
        if self.traces is not None:
            self.traces.observe(profile)


def traces(settings: Settings) -> "Traces | None":
    """None where no collector is named, or the packages for it are not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from service.traces import Traces
    except ImportError as error:
        log.warning(
            "spans are sent nowhere, for the extra otel is not installed (pip install 'codewell[otel]'): %s", error
        )
        return None
    return Traces(settings.otlp_endpoint)


def encoders(settings: Settings) -> Mapping[str, TextEncoder]:
    """The text encoders that the settings allow, by name; models are loaded when first used."""
    from service.text.sentence import SentenceEncoder
    from service.text.tfidf import TfidfEncoder

    found: list[TextEncoder] = [SentenceEncoder(settings.sentence_model), TfidfEncoder(settings.tfidf_dimension)]
    if settings.openai_url is not None and settings.openai_model is not None:
        from service.text.openai import OpenAIEncoder

        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key is not None else None
        found.append(OpenAIEncoder(settings.openai_url, settings.openai_model, key))
    return {encoder.name: encoder for encoder in found}
