"""Spans as a collector gets them, of an application that answers real requests."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from service.api.app import create_app
from service.bootstrap import traces
from service.settings import Settings

pytestmark = pytest.mark.skipif(find_spec("opentelemetry.sdk") is None, reason="needs the extra: otel")
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Collector:
    """What was sent to it."""

    url: str
    paths: list[str] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            told.paths.append(self.path)
            told.spans += [span for of in sent.resource_spans for scope in of.scope_spans for span in scope.spans]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    told = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_search_is_a_request_s_span_with_its_stages_in_it(collector: Collector, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, encoder="tfidf", train_at=0, otlp_endpoint=collector.url)

    async def asked() -> None:
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            items = [{"id": str(n), "text": f"word{n}"} for n in range(20)]
            (await client.post("/ingest", json={"items": items})).raise_for_status()
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-ID": "mine"}
            found = await client.post("/search", json={"text": "word3", "k": 2}, headers=headers)
            assert found.json()["hits"][0]["id"] == "3"
            assert (await client.get("/nowhere")).status_code == 404

    asyncio.run(asked())
    assert set(collector.paths) == {"/v1/traces"}
    request, search = collector.named("POST /search"), collector.named("search")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    told = {pair.key: pair.value.string_value or pair.value.int_value for pair in request.attributes}
    assert told == {
        "codewell.request_id": "mine",
        "http.request.method": "POST",
        "http.route": "/search",
        "http.response.status_code": 200,
    }
    parents = {"search": request, "query": search, "encode": collector.named("query"), "shortlist": search}
    parents |= {"refine": search, "documents": search}
    stages = [span for span in collector.spans if span.trace_id == request.trace_id]
    for name, parent in parents.items():
        (span,) = [span for span in stages if span.name == name]
        assert span.parent_span_id == parent.span_id, name
        assert parent.start_time_unix_nano <= span.start_time_unix_nano + 2_000_000, name
        assert span.end_time_unix_nano <= parent.end_time_unix_nano + 2_000_000, name
    counts = {pair.key: pair.value.string_value or pair.value.int_value for pair in search.attributes}
    assert (counts["codewell.collection"], counts["codewell.items"], counts["codewell.queries"]) == ("default", 20, 1)
    ingest = collector.named("ingest")
    assert ingest.parent_span_id == collector.named("POST /ingest").span_id
    (database,) = [span for span in collector.spans if span.name == "database"]
    assert database.parent_span_id == ingest.span_id
    assert collector.named("GET unmatched").parent_span_id == b""


def test_without_a_collector_there_are_none_and_the_standard_variable_names_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert traces(Settings()) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert Settings().otlp_endpoint == "http://127.0.0.1:1"
    monkeypatch.setitem(sys.modules, "service.traces", None)
    assert traces(Settings()) is None, "the server goes on without the packages"
    assert "pip install 'codewell[otel]'" in caplog.text
