"""Spans of requests and of what collections did for them, sent to an OpenTelemetry collector. Knows no stage by name.

Needs the extra `otel`; nothing imports this module where no collector is named.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from service.profile import Profile

PATH = "/v1/traces"
SEND_SECONDS = 5
"""A collector that does not answer holds up the end of a server for so long."""
PARENT = ("traceparent", "tracestate")
"""The headers of W3C's trace context, by which a caller's span is continued."""
ATTRIBUTES = {"http.request.method": "method", "http.route": "route", "http.response.status_code": "status"}
NANO = 1_000_000_000


class Traces:
    """Thread-safe. Spans are sent in batches by a thread; a collector that is away costs spans and no answer."""

    def __init__(self, endpoint: str) -> None:
        resource = Resource.create({SERVICE_NAME: "codewell", SERVICE_VERSION: version("codewell")})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + PATH, timeout=SEND_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("codewell")

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    @contextmanager
    def request(
        self, headers: Iterable[tuple[bytes, bytes]], request_id: str, told: Mapping[str, Any]
    ) -> Iterator[None]:
        """The span of a request, within the caller's where the headers name one; `told` has method, route and status
        at the end.
        """
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        carrier = {name: given[name] for name in PARENT if name in given}
        parent = propagate.extract(carrier, Context())
        span = self._tracer.start_span("request", parent, SpanKind.SERVER, {"codewell.request_id": request_id})
        token = attach(trace.set_span_in_context(span, parent))
        try:
            yield
        finally:
            detach(token)
            span.update_name(f"{told['method']} {told['route']}")
            span.set_attributes({attribute: told[name] for attribute, name in ATTRIBUTES.items()})
            if told["status"] >= 500:
                span.set_status(StatusCode.ERROR)
            span.end()

    def observe(self, profile: Profile) -> None:
        """A pass of a collection and its stages, within the span of the request that asked for it."""
        began = int(profile.began * NANO)
        attributes: Mapping[str, str | int] = {"codewell.collection": profile.collection} | {
            f"codewell.{name}": number for name, number in profile.counts.items()
        }
        whole = self._tracer.start_span(str(profile.operation), None, SpanKind.INTERNAL, attributes, start_time=began)
        within = {0: trace.set_span_in_context(whole)}
        for run in reversed(
            profile.runs
        ):  # they stand as they ended: the last one that is less deep is around this one
            start = began + int(run.began * NANO)
            span = self._tracer.start_span(run.stage, within[run.depth], start_time=start)
            span.end(start + int(run.seconds * NANO))
            within[run.depth + 1] = trace.set_span_in_context(span)
        whole.end(began + int(profile.seconds * NANO))
