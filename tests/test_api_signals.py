"""Ids, log lines and metrics of a real server: what was asked of it, number by number."""

import json
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server, clustered, start_server
from tests.test_several_servers import until

VECTORS = clustered(400, 8)
HEX = set("0123456789abcdef")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("json"), LOG_FORMAT="json", LOG_LEVEL="debug")
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0, running.log.read_text()


def test_searches_writes_and_failures_are_counted_as_they_were(server: Server) -> None:
    first = server.metrics()
    items = [{"id": str(n), "vector": vector.tolist(), "metadata": {"n": n}} for n, vector in enumerate(VECTORS)]
    server.post("/ingest", {"collection": "c", "items": items})
    server.post("/ingest", {"collection": "c", "items": [items[0], {"id": "1", "vector": [1.0] * 8}, {"id": "bad"}]})
    once = {"Idempotency-Key": "k"}
    for _ in range(2):  # the second time nothing is written
        server.client.post("/ingest", json={"collection": "c", "items": items[2:3]}, headers=once).raise_for_status()
    server.client.patch("/collections/c/items/3", json={"metadata": {"n": -1}}).raise_for_status()
    assert server.post("/collections/c/items/delete", {"ids": ["4", "5", "nowhere"]})["count"] == 2
    assert server.post("/collections/c/items/delete", {"filter": {"n": {"$gte": 390}}})["count"] == 10
    before = server.metrics()
    for n in range(2):
        server.post("/search", {"collection": "c", "vector": VECTORS[n].tolist(), "k": 5})
    queries = [{"id": str(n), "k": 5, "filter": {"n": {"$lt": 50}}} for n in range(6, 9)]
    server.post("/search", {"collection": "c", "queries": queries})
    server.get("/collections/missing", 404)
    server.post("/search", {"collection": "c", "vector": [1]}, 422)
    assert server.client.request("BREW", "/coffee").status_code == 404
    after = server.metrics()

    def more(series: str, than: dict[str, float] = before) -> float:
        return after[f"codewell_{series}"] - than.get(f"codewell_{series}", 0)

    assert more('http_requests_total{method="POST",route="/search",status="200"}') == 3
    assert more('http_requests_total{method="POST",route="/search",status="422"}') == 1
    assert more('http_requests_total{method="GET",route="/collections/{name}",status="404"}') == 1
    assert more('http_requests_total{method="OTHER",route="unmatched",status="404"}') == 1
    assert more('http_request_duration_seconds_count{method="POST",route="/search"}') == 4
    assert more('search_queries_total{collection="c"}') == 5
    assert more('search_duration_seconds_count{collection="c"}') == 3
    for stage, runs in {"query": 3, "shortlist": 3, "refine": 3, "documents": 3, "filter": 1}.items():
        assert more(f'search_stage_seconds_count{{stage="{stage}"}}') == runs, stage
    assert more('search_candidates_total{collection="c",kind="chosen"}') == 47, (
        "n below 50, less two deleted and one without"
    )
    assert after['codewell_items_written_total{collection="c",result="inserted"}'] == 400
    assert after['codewell_items_written_total{collection="c",result="unchanged"}'] == 2
    assert after['codewell_items_written_total{collection="c",result="updated"}'] == 2
    assert after['codewell_items_written_total{collection="c",result="rejected"}'] == 1
    assert after['codewell_items_written_total{collection="c",result="deleted"}'] == 12
    assert more('write_duration_seconds_count{operation="ingest"}', first) == 4
    assert more('write_duration_seconds_count{operation="delete"}', first) == 2
    assert after['codewell_collection_items{collection="c"}'] == 388
    assert after['codewell_collection_seq{collection="c"}'] == 400 + 1 + 1 + 12
    assert after['codewell_view_applied_seq{collection="c"}'] == 414
    assert after['codewell_view_lag_changes{collection="c"}'] == 0
    assert after['codewell_view_lag_seconds{collection="c"}'] == 0
    assert (more("collections", first), after["codewell_workers"], after["codewell_database_up"]) == (1, 1, 1)


def test_every_name_is_in_prometheus_s_form_and_in_the_table_of_the_docs(server: Server) -> None:
    root = Path(__file__).parent.parent
    families = list(text_string_to_metric_families(server.client.get("/metrics").text))
    counted = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    page = (root / "docs" / "operating.md").read_text()
    assert counted == set(re.findall(r"^\| `(codewell_\w+)", page, re.MULTILINE))
    for family in families:
        assert family.name.startswith("codewell_")
        assert family.documentation
        assert family.type in ("gauge", "counter", "histogram")
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels <= {
            "method",
            "route",
            "status",
            "collection",
            "stage",
            "operation",
            "kind",
            "result",
            "state",
        } | {
            "view",
            "index",
            "of",
            "figure",
            "k",
            "version",
            "le",
        }


def test_the_dashboard_asks_for_what_there_is(server: Server) -> None:
    server.post("/ingest", {"collection": "d", "items": [{"id": "a", "vector": [1, 2]}]})
    server.post("/search", {"collection": "d", "vector": [1, 2]})
    root = Path(__file__).parent.parent
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(server.client.get("/metrics").text):
        labels[family.name] = {"k", "collection", "of", "figure", "index"}  # of one that has no series yet
        for sample in family.samples:
            labels[sample.name] = set(sample.labels)
    dashboard = json.loads((root / "deploy" / "grafana" / "codewell.json").read_text())
    for expression in [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]:
        named = re.findall(r"(codewell_\w+)(?:\{([^}]*)\})?", expression)
        assert named
        for name, filters in named:
            assert set(re.findall(r"(\w+)[=!]", filters)) <= labels[name], expression
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
        assert grouped <= labels[named[0][0]] | {"instance"}, expression
    mounted = re.findall(r"- \./(deploy/\S+?):", (root / "docker-compose.yml").read_text())
    assert len(mounted) == 4
    assert all((root / file).is_file() for file in mounted)


def lines(server: Server) -> list[dict[str, Any]]:
    """Every line, each of which is JSON."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def line_of(server: Server, request_id: str) -> dict[str, Any]:
    """The one about a request."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:  # it is written when the answer has gone out
        found.extend(line for line in lines(server) if line.get("request_id") == request_id)
        return bool(found)

    until(is_there)
    (line,) = found
    return line


def test_the_answer_s_id_is_in_the_log_with_what_was_asked(server: Server) -> None:
    before = time.time()
    answer = server.client.post("/search", json={"vector": [0.25, 123456.75], "collection": "secret-collection"})
    request_id = answer.headers["x-request-id"]
    assert (answer.status_code, len(request_id), set(request_id) <= HEX) == (404, 32, True)
    assert answer.json()["request_id"] == request_id
    line = line_of(server, request_id)
    assert {name: line[name] for name in ("level", "logger", "method", "route", "status")} == {
        "level": "info",
        "logger": "service.api.signals",
        "method": "POST",
        "route": "/search",
        "status": 404,
    }
    assert 0 < line["ms"] < 60_000
    assert line["message"] == f"POST /search 404 {line['ms']} ms"
    assert abs(before - datetime.fromisoformat(line["time"]).timestamp()) < 60
    again = server.client.get("/readyz").headers["x-request-id"]
    assert again != request_id
    assert line_of(server, again)["level"] == "debug", "a probe that succeeds"
    text = server.log.read_text()
    assert "123456.75" not in text, "no body is in the log"
    assert "secret-collection" not in text, "a path is logged as its template"
    assert [line["logger"] for line in lines(server)][:1] == ["uvicorn.error"], "uvicorn's own lines are alike"
    assert [line["level"] for line in lines(server) if "listens on http://" in line["message"]] == ["info"]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("abc-DEF_1.2:3", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("a b", False),
        ('a"b', False),
        ("a\tb", False),
        ("é", False),
        ("\x1b[31mred", False),
    ],
)
def test_a_caller_s_own_id_is_taken_where_it_is_well_formed(server: Server, given: str, taken: bool) -> None:
    answer = server.client.get("/nowhere", headers={b"X-Request-ID": given.encode()})
    request_id = answer.headers["x-request-id"]
    assert (request_id == given) is taken
    assert answer.json()["request_id"] == request_id
    assert line_of(server, request_id)["route"] == "unmatched"


def test_every_kind_of_error_has_the_id(server: Server) -> None:
    asked: list[tuple[str, str, dict[str, Any], int]] = [
        ("POST", "/search", {"content": b"{", "headers": {"content-type": "application/json"}}, 422),
        ("POST", "/search", {"json": {"vector": [1], "magic": 1}}, 422),
        ("PUT", "/search", {}, 405),
        ("GET", "/jobs/none", {}, 404),
        ("POST", "/search", {"content": b"x" * (65 * 1024 * 1024)}, 413),
    ]
    for n, (method, path, request, status) in enumerate(asked):
        headers = {**request.pop("headers", {}), "X-Request-ID": f"error-{n}"}
        answer = server.client.request(method, path, headers=headers, **request)
        assert (answer.status_code, answer.json()["request_id"]) == (status, f"error-{n}"), answer.text
        assert answer.headers["x-request-id"] == f"error-{n}"
    stream = server.client.post(
        "/search?collection=none",
        content=b'{"vector": [1]}\n',
        headers={"content-type": "application/x-ndjson", "X-Request-ID": "in-a-stream"},
    )
    assert json.loads(stream.text)["request_id"] == "in-a-stream", "it is known in the threads of a stream, too"


def test_what_was_accepted_is_finished_after_sigterm(server: Server) -> None:
    """Half of a body before the signal, the other half after it: the answer is a receipt of what was committed."""
    body = json.dumps({"collection": "late", "items": [{"id": "late", "vector": [1, 2]}]}).encode()
    head = f"POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + body[:20])
        server.client.get("/livez")  # comes after it, in the one loop that reads both
        ended: list[int] = []
        stopping = Thread(target=lambda: ended.append(server.stop()))
        stopping.start()
        until(lambda: any(line["message"] == "Shutting down" for line in lines(server)))
        connection.sendall(body[20:])
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    stopping.join()
    status, _, rest = answer.partition(b"\r\n")
    receipt = json.loads(rest.partition(b"\r\n\r\n")[2])
    assert (status, receipt["counts"]["inserted"]) == (b"HTTP/1.1 200 OK", 1)
    assert ended == [0]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/livez")
    with sqlite3.connect(server.data_dir / "codewell.db") as database:
        assert database.execute("SELECT item_id FROM items WHERE item_id = 'late'").fetchall() == [("late",)]
    database.close()
