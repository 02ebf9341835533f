"""What Prometheus is told at one scrape: what processes counted, and what the database says. Knows no HTTP."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from prometheus_client import Metric as Family
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from sqlalchemy import func, select

from service.errors import CodewellError
from service.job import JobKind, JobState
from service.metrics import MOST_COLLECTIONS, Metrics
from service.notices import Notices
from service.store.database import Database
from service.store.tables import CollectionRow, GenerationRow, JobRow
from service.views import Views

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
APPLIED, BEHIND, POLLED = (
    f"codewell_view_{name}" for name in ("applied_seq", "behind_since_timestamp_seconds", "polled_timestamp_seconds")
)
OF_VIEWS = (APPLIED, BEHIND, "codewell_view_ram_bytes", "codewell_view_mapped_bytes")
OF_CODECS = ("codewell_drift_status", "codewell_drift_shift", "codewell_code_spread")
"""Of these no series is told whose collection was deleted: a process cannot take one back."""
SAMPLED = "codewell_recall_sample_ratio"
"""Of this only those of published generations, whose ids are no labels then."""


class Held(NamedTuple):
    """A collection as the database has it."""

    name: str
    seq: int
    items: int
    generation: int | None
    """The published one."""
    certificate: dict[str, Any] | None
    published_at: float | None


class Told(NamedTuple):
    """What the database says in one moment."""

    collections: int
    held: list[Held]
    """Of the oldest MOST_COLLECTIONS."""
    jobs: dict[tuple[str, str], int]
    """By kind and state."""
    waiting: int
    """Notices."""


class Scrape(Collector):
    """Prometheus's text, made anew each time."""

    def __init__(self, database: Database, metrics: Metrics, views: Views, notices: Notices) -> None:
        self._database = database
        self._metrics = metrics
        self._views = views
        self._notices = notices

    def text(self) -> bytes:
        """In the format whose name is MEDIA_TYPE."""
        return generate_latest(self)

    def collect(self) -> Iterator[Family]:
        """Counters are told also while the database is away."""
        told = self._told()
        self._views.report()
        families = self._metrics.families()
        yield _gauge("info", "Of the program", [((version("codewell"),), 1)], "version")
        yield _gauge("database_up", "Whether the database answers", [((), int(told is not None))])
        published = None if told is None else {held.name: str(held.generation) for held in told.held}
        for family in families:
            if family.name in OF_VIEWS + OF_CODECS and published is not None:
                family.samples = [sample for sample in family.samples if sample.labels["collection"] in published]
            if family.name == SAMPLED:
                family.samples = list(_current(family.samples, published or {}))
            if family.name in OF_CODECS:
                family.samples = [sample for sample in family.samples if not math.isnan(sample.value)]
            if family.name in OF_VIEWS[:2]:
                family.samples = [sample for sample in family.samples if sample.value != float("inf")]
            if family.name != BEHIND:
                yield family
        if told is not None:
            yield from _of_database(told)
            yield from _lags(told.held, families)
            said = "Notices that the webhook's endpoint has not taken so far"
            yield _gauge("webhook_waiting", said, [((), told.waiting)])

    def _told(self) -> Told | None:
        columns = (CollectionRow.name, CollectionRow.seq, CollectionRow.item_count, CollectionRow.generation_id)
        statement = (
            select(*columns, GenerationRow.certificate, GenerationRow.published_at)
            .outerjoin(GenerationRow, GenerationRow.id == CollectionRow.generation_id)
            .order_by(CollectionRow.id)
            .limit(MOST_COLLECTIONS)
        )
        try:
            with self._database.reading() as session:
                collections = session.scalar(select(func.count()).select_from(CollectionRow)) or 0
                held = [Held(*row) for row in session.execute(statement)]
                counted = select(JobRow.kind, JobRow.state, func.count()).group_by(JobRow.kind, JobRow.state)
                jobs = {(kind, state): number for kind, state, number in session.execute(counted)}
            waiting = self._notices.waiting().number
        except CodewellError:
            return None
        return Told(collections, held, jobs, waiting)


def _current(samples: Iterable[Sample], published: Mapping[str, str]) -> Iterator[Sample]:
    """Samples of the generations that collections have now."""
    for sample in samples:
        labels = dict(sample.labels)
        if published.get(labels["collection"]) == labels.pop("generation"):
            yield sample._replace(labels=labels)


def _of_database(told: Told) -> Iterator[Family]:
    yield _gauge("collections", "Collections that there are", [((), told.collections)])

    def each(name: str, said: str, value: Callable[[Held], float | None]) -> Family:
        pairs = ((held.name, value(held)) for held in told.held)
        return _gauge(name, said, [((name,), number) for name, number in pairs if number is not None], "collection")

    yield each("collection_items", "Items", lambda held: held.items)
    yield each("collection_seq", "Last change", lambda held: held.seq)
    yield each("generation_published_timestamp_seconds", "When the codec was published", lambda held: held.published_at)
    measured = [(held.name, held.certificate) for held in told.held if held.certificate]
    yield _gauge(
        "code_bytes",
        "Bytes of a code",
        [((name,), certificate["code_bytes"]) for name, certificate in measured if "code_bytes" in certificate],
        "collection",
    )
    yield _gauge(
        "certificate_recall_ratio",
        "Lower end of the published certificate's interval",
        [
            ((name, depth.removeprefix("recall@")), estimate["low"])
            for name, certificate in measured
            for depth, estimate in certificate.get("intervals", {}).items()
        ],
        "collection",
        "k",
    )
    kinds = sorted({kind for kind, _ in told.jobs} | set(JobKind))
    counts = [((kind, state), told.jobs.get((kind, state), 0)) for kind in kinds for state in JobState]
    yield _gauge("jobs", "Jobs by state", counts, "kind", "state")


def _lags(held: Iterable[Held], families: Iterable[Family]) -> Iterator[Family]:
    """Counted now, against the database: a process that follows no more cannot say so itself."""
    samples = {family.name: family.samples for family in families}
    applied = {sample.labels["collection"]: sample.value for sample in samples.get(APPLIED, [])}
    behind = {sample.labels["collection"]: sample.value for sample in samples.get(BEHIND, [])}
    polled = min((sample.value for sample in samples.get(POLLED, []) if sample.value), default=time.time())
    now = time.time()
    changes, seconds = [], []
    for one in held:
        if (seq := applied.get(one.name)) is not None:
            lag = max(0, one.seq - int(seq))
            since = min(behind.get(one.name, now), polled if lag else now)
            changes.append(((one.name,), lag))
            seconds.append(((one.name,), max(0.0, now - since)))
    yield _gauge("view_lag_changes", "Changes in the log that a process's views do not hold", changes, "collection")
    yield _gauge("view_lag_seconds", "For how long views have been behind", seconds, "collection")


def _gauge(name: str, said: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Family:
    family = GaugeMetricFamily(f"codewell_{name}", said, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family
