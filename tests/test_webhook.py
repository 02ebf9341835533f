"""What an endpoint gets, a real one over HTTP: everything, in order, signed, and whatever it answers."""

import json
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import pytest

from service import webhook
from service.drift import Drift, Freshness, Look
from service.serving import CannotServe, _check_webhook
from service.settings import Settings
from service.signature import key_of
from service.store.tables import NoticeRow
from service.webhook import Webhook
from tests.conftest import Server, clustered
from tests.test_notices import Outbox
from tests.test_several_servers import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the specification's own libraries
PASSWORD, TOKEN = "pa55word", "t0ken"
OPERATING = Path(__file__).parent.parent / "docs" / "operating.md"


def documented() -> Callable[..., bool]:
    """What docs/operating.md tells an endpoint to verify by."""
    (code,) = (block.partition("```")[0] for block in OPERATING.read_text().split("```python\n")[1:])
    made: dict[str, Any] = {}
    exec(code, made)  # noqa: S102
    found: Callable[..., bool] = made["is_genuine"]
    return found


is_genuine = documented()


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)


class Endpoint:
    """An HTTP server that keeps what it gets, and answers as `script` says, at the end of it 204."""

    def __init__(self) -> None:
        self.got: list[Request] = []
        self.script: list[int | str] = []
        self.released = Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                endpoint.got.append(Request(self.path, headers, body))
                answer = endpoint.script.pop(0) if endpoint.script else 204
                with suppress(OSError):  # whoever asked may have gone away
                    self.answer(answer)

            def answer(self, answer: int | str) -> None:
                if answer == "hold":
                    endpoint.released.wait(20)
                    return
                if answer == "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not endpoint.released.wait(0.05):
                        self.wfile.write(b"x-more: to come\r\n")
                    return
                self.send_response(200 if answer == "flood" else int(answer))
                if answer == 302:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(10**9 if answer == "flood" else 0))
                self.end_headers()
                if answer == "flood":
                    self.wfile.write(bytes(100_000))
                    endpoint.released.wait(20)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its own name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://me:{PASSWORD}@127.0.0.1:{self.port}/hook?token={TOKEN}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(f"sqlite:///{tmp_path / 'codewell.db'}")
    yield made
    made.database.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LOOK_SECONDS", 0.02)


@pytest.fixture
def sender(endpoint: Endpoint, outbox: Outbox, tmp_path: Path) -> Iterator[Webhook]:
    made = Webhook(endpoint.url, key_of(SECRET), outbox.notices, tmp_path, shortest=0.05)
    made.start()
    yield made
    endpoint.released.set()
    made.stop()
    made._thread.join()


def tell(outbox: Outbox, number: int, first: int = 0) -> None:
    """So many notices, whose `items` count on."""
    for n in range(first, first + number):
        status = Freshness.STALE if n % 2 == 0 else Freshness.FRESH
        assert outbox.notices.drifted(1, Look(1, 0, Drift(status, n, {})))


def counted(endpoint: Endpoint) -> list[int]:
    return [request.event["data"]["items"] for request in endpoint.got]


def waiting(outbox: Outbox) -> int:
    return outbox.notices.waiting().number


@pytest.mark.usefixtures("sender")
def test_what_is_refused_is_sent_again_signed_anew_and_before_what_comes_after(
    endpoint: Endpoint, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="service")
    endpoint.script = [500, 410, 302, "flood"]
    tell(outbox, 3)
    until(lambda: waiting(outbox) == 0)
    assert counted(endpoint) == [0, 0, 0, 0, 1, 2]
    first, *again, _, _ = endpoint.got
    assert {request.message for request in again} == {first.message}
    assert {request.body for request in again} == {first.body}
    assert len({request.message for request in endpoint.got}) == 3
    assert {request.path for request in endpoint.got} == {f"/hook?token={TOKEN}"}, "a redirect is not followed"
    for request in endpoint.got:
        assert request.headers["content-type"] == "application/json"
        assert request.headers["authorization"].startswith("Basic ")
        assert is_genuine(request.headers, request.body, SECRET)
        assert not is_genuine(request.headers, request.body + b" ", SECRET)
        assert not is_genuine(request.headers, request.body, "another secret of enough bytes")
        assert not is_genuine(request.headers | {"webhook-id": "msg_other"}, request.body, SECRET)
        assert not is_genuine(
            request.headers | {"webhook-timestamp": str(int(time.time()) - 400)}, request.body, SECRET
        )
    at = f"the webhook at 127.0.0.1:{endpoint.port}"
    assert [record.getMessage() for record in caplog.records] == [
        f"{at} did not take {first.message}, and is tried again: it answered 500",
        f"{at} takes notices again",
    ]


@pytest.mark.usefixtures("sender")
def test_a_slow_endpoint_is_left_however_it_is_slow(
    endpoint: Endpoint, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.4)
    endpoint.script = ["hold", "drip"]
    began = time.monotonic()
    tell(outbox, 1)
    until(lambda: waiting(outbox) == 0)
    assert counted(endpoint) == [0, 0, 0]
    assert time.monotonic() - began >= 0.8
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["no answer within 0 s"]


def test_an_end_waits_for_no_endpoint(
    endpoint: Endpoint, outbox: Outbox, sender: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "STOP_SECONDS", 0.1)
    endpoint.script = ["hold"]
    tell(outbox, 1)
    until(lambda: len(endpoint.got) == 1)
    began = time.monotonic()
    sender.stop()
    assert time.monotonic() - began < 1
    assert waiting(outbox) == 1


def test_waits_double_up_to_a_quarter_of_an_hour(outbox: Outbox, tmp_path: Path) -> None:
    nobody = Webhook("http://127.0.0.1:1/", key_of(SECRET), outbox.notices, tmp_path)
    tell(outbox, 1)
    waits = []
    for _ in range(10):
        before = time.time()
        assert not nobody._sent()
        with outbox.database.writing() as session:
            row = session.get_one(NoticeRow, 1)
            waits.append(round(row.next_at - before))
            row.next_at = 0
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_what_fails_for_three_days_is_given_up_and_the_next_is_sent(
    endpoint: Endpoint, outbox: Outbox, sender: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    del sender
    endpoint.script = [500, 500, 500]
    ages = (3 * 86_400 + 60, 3 * 86_400 - 60, 0)
    with outbox.database.writing() as session:
        for n, age in enumerate(ages):
            body = json.dumps({"data": {"items": n}})
            row = NoticeRow(message_id=f"msg_{n}", body=body, created_at=time.time() - age, attempts=0, next_at=0)
            session.add(row)
            session.flush()
    until(lambda: waiting(outbox) == 0)
    assert counted(endpoint) == [0, 1, 1, 1, 2]
    (given_up,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert given_up.getMessage().endswith("did not take msg_0 in 1 attempts, and it is given up: it answered 500")


def test_of_several_machines_one_sends_a_notice(endpoint: Endpoint, database_url: str, tmp_path: Path) -> None:
    outbox = Outbox(database_url)
    senders = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        senders.append(Webhook(endpoint.url, key_of(SECRET), outbox.notices, tmp_path / name, shortest=0.05))
        senders[-1].start()
    endpoint.script = [204, 503]
    tell(outbox, 12)
    until(lambda: waiting(outbox) == 0)
    assert counted(endpoint) == [0, 1, *range(1, 12)]
    for one in senders:
        one.stop()
    outbox.database.close()


def test_the_end_of_a_training_is_told_also_by_the_next_server(
    endpoint: Endpoint, new_server: Callable[..., Server]
) -> None:
    settings = {"WEBHOOK_URL": endpoint.url, "WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "debug"}
    server = new_server(**settings)
    assert server.metrics()["codewell_webhook_waiting"] == 0
    items = [{"id": str(n), "vector": row.tolist()} for n, row in enumerate(clustered(200, 8))]
    server.post("/ingest", {"collection": "c", "items": items})
    asked = {"codec": {"kind": "dense", "bytes": 4, "decoder_hidden": []}, "training": {"epochs": 1}}
    job_id = server.post("/collections/c/train", asked, 202)["id"]
    until(lambda: f"job {job_id} started" in server.log.read_text())
    os.kill(server.process.pid, signal.SIGSTOP)  # the job ends, and nobody is there to send
    until(lambda: rows(server.data_dir, "SELECT state FROM jobs") == [("succeeded",)], seconds=60)
    assert len(rows(server.data_dir, "SELECT id FROM notices")) == 1
    server.stop(signal.SIGKILL)
    assert endpoint.got == []

    again = new_server(**settings)
    until(lambda: len(endpoint.got) == 1)
    job = again.get(f"/jobs/{job_id}")
    generation = again.get("/collections/c")["generation"]
    assert generation == job["result"]["generation"]
    event = endpoint.got[0].event
    assert event["type"] == "job.finished"
    of_job = {name: job[name] for name in ("kind", "collection", "state", "message", "reason")}
    assert event["data"] == of_job | {"job": job_id, "generation": generation}
    assert (event["data"]["state"], event["data"]["reason"]) == ("succeeded", None)
    until(lambda: again.metrics()["codewell_webhook_waiting"] == 0)

    cancelled = again.post("/collections/c/train", asked, 202)["id"]
    again.client.delete(f"/jobs/{cancelled}").raise_for_status()
    again.post("/collections/c/items/count", {})  # requests go on meanwhile
    until(lambda: len(endpoint.got) == 2, seconds=60)
    assert [endpoint.got[1].event["data"][name] for name in ("job", "state")] == [cancelled, "cancelled"]
    assert all(is_genuine(request.headers, request.body, SECRET) for request in endpoint.got)
    assert again.stop() == 0
    for secret in (SECRET, SECRET.removeprefix("whsec_"), PASSWORD, TOKEN):
        assert secret not in again.log.read_text()


def rows(data_dir: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(data_dir / "codewell.db")) as connection:
        return connection.execute(statement).fetchall()


def test_without_the_setting_nothing_is_written(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"vector": row.tolist()} for row in clustered(200, 8)]})
    job = server.post(f"/collections/{name}/plan", {}, 202)
    server.client.delete(f"/jobs/{job['id']}").raise_for_status()
    assert server.finished(job["id"])["state"] == "cancelled"
    assert rows(server.data_dir, "SELECT * FROM notices") == []
    assert server.metrics()["codewell_webhook_waiting"] == 0


def test_a_secret_in_a_file_is_read_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    settings = Settings(webhook_url="https://ops.example", webhook_secret_file=file)
    with pytest.raises(CannotServe, match=r"CODEWELL_WEBHOOK_SECRET_FILE .*secret cannot be used: No such file"):
        _check_webhook(settings)
    file.write_text("short\n")
    with pytest.raises(CannotServe, match=r"cannot be used: the secret has 5 bytes, fewer than 24"):
        _check_webhook(settings)
    file.write_text(f"{SECRET}\n")
    _check_webhook(settings)
    assert settings.webhook_key == key_of(SECRET)
