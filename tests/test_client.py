import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from service.client import Client, ClientError, ServerRefused, ServerUnreachable, is_loopback
from tests.conftest import Server, clustered


class Endpoint(ThreadingHTTPServer):
    """Answers what `script` says, in its order: status, media type, body; status 0 closes the connection instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, str, bytes]] = []
        self.paths: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        status, media, body = self.server.script.pop(0)
        self.server.paths.append(self.path)
        if not status:
            return
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Says nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def other(endpoint: Endpoint) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{endpoint.server_port}") as client:
        yield client


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url + "/") as made:
        yield made


def test_items_go_in_and_are_found(client: Client, name: str) -> None:
    items: list[dict[str, Any]] = [
        {"id": "dog", "text": "a dog barks"},
        {"id": "cat", "text": "a cat meows", "metadata": {"legs": 4}},
    ]
    assert client.ingest(name, items)["counts"]["inserted"] == 2
    answer = client.search({"collection": name, "text": "which cat meows", "k": 1})
    assert [hit["id"] for hit in answer["hits"]] == ["cat"]
    assert client.items(name, ["dog", "cow"]) == {
        "items": [client.items(name, ["dog"])["items"][0]],
        "missing": ["cow"],
    }
    assert client.collection(name)["items"] == 2
    assert name in [one["name"] for one in client.collections()]
    client.delete(name)
    assert name not in [one["name"] for one in client.collections()]


def test_lines_are_streamed(client: Client, name: str) -> None:
    lines = (json.dumps({"id": number, "text": f"word{number}"}).encode() + b"\n" for number in range(2_500))
    answer = client.ingest_ndjson(name, lines)
    assert answer["counts"]["inserted"] == answer["committed_through_line"] == 2_500


def test_a_job_is_followed_and_cancelled(client: Client, name: str) -> None:
    client.create({"name": name, "dimension": 8})
    client.ingest(name, [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(clustered(200, 8))])
    job = client.train(name, {"training": {"epochs": 10_000}})
    assert job["id"] in [one["id"] for one in client.jobs()]
    client.cancel(job["id"])
    while client.job(job["id"])["state"] in ("queued", "running"):
        pass
    assert client.job(job["id"])["state"] == "cancelled"


def test_a_refusal_carries_the_whole_problem(client: Client, name: str) -> None:
    with pytest.raises(ServerRefused, match=r"1 were rejected.*neither") as refused:
        client.ingest(name, [{"id": "a", "vector": [1, 2]}, {"id": "b"}], atomic=True)
    assert (refused.value.status, refused.value.title, refused.value.field) == (422, "Batch rejected", "items[1].text")
    assert [error["position"] for error in refused.value.members["errors"]] == [1]


def test_not_a_number_is_refused_by_the_server_and_for_that_item_only(client: Client, name: str) -> None:
    answer = client.ingest(name, [{"id": "a", "vector": [1.0, 2.0]}, {"id": "b", "vector": [1.0, float("nan")]}])
    assert [result["status"] for result in answer["results"]] == ["inserted", "rejected"]


def test_any_name_stays_one_part_of_the_path(client: Client) -> None:
    with pytest.raises(ServerRefused) as refused:
        client.collection("a b?c#d%20")
    assert (refused.value.status, "'a b?c#d%20'" in refused.value.detail) == (404, True)


def test_no_server_says_how_to_start_one() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1: start one"):
        client.ready()


@pytest.mark.parametrize("url", ["nonsense", "ftp://a/b", "http://", "127.0.0.1:8000", "http://a:b"])
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    with pytest.raises(ClientError, match="URL"):
        Client(url)


def test_another_server_is_not_taken_for_ours(endpoint: Endpoint, other: Client) -> None:
    endpoint.script = [(200, "text/html", b"<h1>hello</h1>"), (200, "application/json", b"[1]")]
    for _ in range(2):
        with pytest.raises(ClientError, match="no Codewell server"):
            other.ready()
    endpoint.script = [(502, "text/html", b"<h1>a proxy</h1>")]
    with pytest.raises(ServerRefused, match="502 Bad Gateway: <h1>a proxy</h1>"):
        other.ready()


def test_a_question_is_asked_again_where_the_connection_was_closed(endpoint: Endpoint, other: Client) -> None:
    closed, answered = (0, "", b""), (200, "application/json", b'{"id": "a"}')
    endpoint.script = [closed, answered]
    assert other.job("a") == {"id": "a"}
    assert endpoint.paths == ["/jobs/a"] * 2
    endpoint.script = [closed, closed, answered]
    with pytest.raises(ServerUnreachable, match="broke"):
        other.job("a")
    endpoint.script, endpoint.paths = [closed, answered], []
    with pytest.raises(ServerUnreachable, match="broke"):
        other.train("c", {})
    assert endpoint.paths == ["/collections/c/train"], "a training is begun once"


def test_an_ingest_is_sent_again_when_the_server_was_busy(
    endpoint: Endpoint, other: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("service.client.time.sleep", waited.append)
    busy = (503, "application/problem+json", b'{"title": "Unavailable", "detail": "try again"}')
    endpoint.script = [busy, busy, (200, "application/json", b'{"seq": 1}')]
    assert other.ingest("default", []) == {"seq": 1}
    assert waited == [0.5, 1.0]
    endpoint.script = [busy] * 6
    with pytest.raises(ServerRefused, match="Unavailable: try again"):
        other.ingest("default", [])
    assert endpoint.script == []


@pytest.mark.parametrize(
    ("host", "here"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("example", False)]
)
def test_which_hosts_mean_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here
