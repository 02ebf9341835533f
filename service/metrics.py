"""What a process counts and times, in Prometheus's terms. Knows no HTTP, no SQL and no collection.

Processes that answer at one port share a folder, named by SHARED before the library is imported: each writes its
numbers to files there, and whichever is scraped adds them up. A process alone keeps them in its memory.
"""

import os
from collections.abc import Mapping
from threading import Lock
from typing import Literal, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector

from service.drift import Drift, Freshness
from service.profile import Operation, Profile

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client is told of the folder."""
MOST_COLLECTIONS = 500
"""Collections that have numbers of their own; those that come later are counted together, under no name."""
OTHERS = ""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CANDIDATES = ("codes", "chosen", "shortlist", "worded", "originals")
"""The counts of a search's profile that say how much was looked at."""
LOST_TO = ("codec", "shortlist")
"""What neighbours are lost to where no filter is."""
M = TypeVar("M", Counter, Histogram)
NEVER, UNKNOWN = float("inf"), float("nan")
Merged = Literal["livesum", "livemin", "livemax", "livemostrecent"]
"""What a number is of those that the living processes have."""


class Metrics:
    """Thread-safe. One a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Requests that were answered", "method", "route", "status")
        self._request_seconds = self._histogram(
            "http_request_duration_seconds",
            "From a request's head to the end of its answer",
            LONG_SECONDS,
            "method",
            "route",
        )
        self._queries = self._counter("search_queries", "Queries that were answered", "collection")
        self._search_seconds = self._histogram(
            "search_duration_seconds", "Searches, of one query or several, without HTTP", SECONDS, "collection"
        )
        self._stage_seconds = self._histogram("search_stage_seconds", "Stages of searches", SECONDS, "stage")
        self._candidates = self._counter("search_candidates", "What searches looked at", "collection", "kind")
        self._items = self._counter("items_written", "Items by what became of them", "collection", "result")
        self._write_seconds = self._histogram(
            "write_duration_seconds", "Writes, until they are committed and found", LONG_SECONDS, "operation"
        )
        self._write_stage_seconds = self._histogram(
            "write_stage_seconds", "Stages of writes", LONG_SECONDS, "operation", "stage"
        )
        self._workers = self._gauge("workers", "Processes that answer", "livesum")
        self._polled = self._gauge("view_polled_timestamp_seconds", "When the log was last looked at", "livemin")
        self._applied = self._gauge(
            "view_applied_seq",
            "Last change that the views hold, where they are furthest behind",
            "livemin",
            "collection",
        )
        self._behind = self._gauge(
            "view_behind_since_timestamp_seconds", "Since when views are behind", "livemin", "collection"
        )
        self._ram = self._gauge("view_ram_bytes", "RAM of the views, of all processes", "livesum", "collection", "view")
        self._mapped = self._gauge(
            "view_mapped_bytes", "Codes in a file that processes map and share", "livemax", "collection"
        )
        self._drift_status = self._gauge(
            "drift_status", "Of the newest items: 0 fresh, 1 drifting, 2 stale", "livemostrecent", "collection"
        )
        self._drift_shift = self._gauge(
            "drift_shift",
            "How far the newest items, or queries, are from the certificate's, in standard deviations",
            "livemostrecent",
            "collection",
            "of",
            "figure",
        )
        self._code_spread = self._gauge(
            "code_spread", "How evenly the codes use what they could", "livemostrecent", "collection", "figure"
        )
        self._recall_sample = self._gauge(
            "recall_sample_ratio",
            "recall@10 of live items when it was last measured, and what the codec and the shortlist lost",
            "livemostrecent",
            "collection",
            "generation",
            "index",
            "of",
        )
        self._series: dict[tuple[Counter | Histogram, tuple[str, ...]], Counter | Histogram] = {}
        self._drifts: dict[str, set[tuple[Gauge, tuple[str, ...]]]] = {}
        """By collection, the series that were told of it last."""
        self._known: set[str] = set()
        self._lock = Lock()
        self._workers.set(1)

    # ------------------------------------------------------------------ what happened

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request that was answered; `route` is a template, never a path."""
        self._of(self._requests, method, route, str(status)).inc()
        self._of(self._request_seconds, method, route).observe(seconds)

    def observe(self, profile: Profile) -> None:
        """A pass of a collection that came to its end."""
        collection, counts = self._bounded(profile.collection), profile.counts
        if profile.operation is Operation.SEARCH:
            self._of(self._search_seconds, collection).observe(profile.seconds)
            self._of(self._queries, collection).inc(counts.get("queries", 0))
            for stage, milliseconds in profile.milliseconds.items():
                self._of(self._stage_seconds, stage).observe(milliseconds / 1000)
            for kind in CANDIDATES:
                if kind in counts:
                    self._of(self._candidates, collection, kind).inc(counts[kind])
            return
        self._of(self._write_seconds, profile.operation).observe(profile.seconds)
        for stage, milliseconds in profile.milliseconds.items():
            self._of(self._write_stage_seconds, profile.operation, stage).observe(milliseconds / 1000)
        for result, number in counts.items():
            self._of(self._items, collection, result).inc(number)

    # ------------------------------------------------------------------ how this process's views stand

    def polled(self, now: float) -> None:
        """The log was looked at, and followed as far as that was possible."""
        self._polled.set(now)

    def applied(self, collection: str, seq: float) -> None:
        """The views hold the log up to `seq`; NEVER where there is none."""
        if self._bounded(collection) != OTHERS:
            self._applied.labels(collection).set(seq)

    def behind(self, collection: str, since: float = NEVER) -> None:
        """Views are behind since then, or are not."""
        if self._bounded(collection) != OTHERS:
            self._behind.labels(collection).set(since)

    def held(self, collection: str, ram: Mapping[str, int], mapped: int) -> None:
        """Bytes that the views take, by kind of view, and that they map."""
        if self._bounded(collection) != OTHERS:
            for view, number in ram.items():
                self._ram.labels(collection, view).set(number)
            self._mapped.labels(collection).set(mapped)

    def drifted(self, collection: str, drift: Drift | None) -> None:
        """How far the newest items and queries are from the certificate, and how its codes are spread now; what is not
        known any more is UNKNOWN, for a series cannot be taken back.
        """
        if self._bounded(collection) == OTHERS:
            return
        told: dict[tuple[Gauge, tuple[str, ...]], float] = {}
        if drift is not None:
            told[self._drift_status, (collection,)] = list(Freshness).index(drift.status)
            asked = {} if drift.queries is None else drift.queries.shifts
            for of, shifts in (("items", drift.shifts), ("queries", asked)):
                told |= {(self._drift_shift, (collection, of, figure)): shift for figure, shift in shifts.items()}
            spread = drift.codes.now
            told |= {(self._code_spread, (collection, figure)): value for figure, value in spread.items()}
        for gauge, labels in self._drifts.get(collection, set()) - told.keys():
            gauge.labels(*labels).set(UNKNOWN)
        for (gauge, labels), value in told.items():
            gauge.labels(*labels).set(value)
        self._drifts[collection] = set(told)

    def sampled(self, collection: str, generation: int, index: str, found: float, lost: Mapping[str, float]) -> None:
        """Live items were asked for: what was found of their true neighbours, and what was lost to what."""
        if self._bounded(collection) != OTHERS:
            for of, share in {"found": found, **{to: lost[to] for to in LOST_TO}}.items():
                self._recall_sample.labels(collection, str(generation), index, of).set(share)

    # ------------------------------------------------------------------ what is scraped

    def families(self) -> list[Family]:
        """Everything counted so far, of all processes that share a folder."""
        shared = SHARED in os.environ
        source = MultiProcessCollector(None) if shared else self._registry  # type: ignore[no-untyped-call]
        found = list(source.collect())
        for family in found:
            # When each series began: more lines than the series themselves, and Prometheus has no use for them.
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        return found

    def _bounded(self, collection: str) -> str:
        if collection not in self._known:
            with self._lock:
                if len(self._known) >= MOST_COLLECTIONS:
                    return OTHERS
                self._known.add(collection)
        return collection

    def _of(self, metric: M, *labels: str) -> M:
        """The series with these labels. To find one in the library takes longer than to count in it."""
        found = self._series.get((metric, labels))
        if found is None:
            found = self._series[metric, labels] = metric.labels(*labels)
        return cast(M, found)

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(f"codewell_{name}", said, labels, registry=self._registry)

    def _histogram(self, name: str, said: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"codewell_{name}", said, labels, registry=self._registry, buckets=buckets)

    def _gauge(self, name: str, said: str, merged: Merged, *labels: str) -> Gauge:
        return Gauge(f"codewell_{name}", said, labels, registry=self._registry, multiprocess_mode=merged)
