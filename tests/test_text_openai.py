import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from service.errors import EncoderFailed
from service.text import openai
from service.text.openai import OpenAIEncoder

KEY = "sk-very-secret-0123456789"


class Endpoint(ThreadingHTTPServer):
    """Answers [length of the text, 1, 2] for each text, the last text first, once `script` has no answers left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.script: list[tuple[int, str, dict[str, str]]] = []
        self.bodies: list[dict[str, object]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.paths.append(self.path)
        self.server.keys.append(self.headers["Authorization"])
        rows = [{"index": i, "embedding": [len(text), 1.0, 2.0]} for i, text in enumerate(body["input"])]
        normal = (200, json.dumps({"data": rows[::-1]}), dict[str, str]())
        status, answer, headers = self.server.script.pop(0) if self.server.script else normal
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(answer.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Says nothing."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Endpoint() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def encoder(endpoint: Endpoint) -> Iterator[OpenAIEncoder]:
    made = OpenAIEncoder(endpoint.url, "small", KEY, batch=2)
    yield made
    made.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(openai, "sleep", seconds.append)
    return seconds


def test_vectors_come_in_the_order_of_the_texts_batch_by_batch(endpoint: Endpoint, encoder: OpenAIEncoder) -> None:
    encoded = encoder.encode(["a", "bb", "ccc", "dddd", "e"])
    assert encoded.vectors.tolist() == [[1, 1, 2], [2, 1, 2], [3, 1, 2], [4, 1, 2], [1, 1, 2]]
    assert encoded.vectors.dtype == np.float32
    assert encoded.warnings == [None] * 5
    assert [body["input"] for body in endpoint.bodies] == [["a", "bb"], ["ccc", "dddd"], ["e"]]
    assert endpoint.bodies[2] == {"model": "small", "input": ["e"], "encoding_format": "float"}
    assert endpoint.paths[0] == "/v1/embeddings"
    assert endpoint.keys[0] == f"Bearer {KEY}"


def test_the_dimension_is_asked_for_once_or_learned(endpoint: Endpoint, encoder: OpenAIEncoder) -> None:
    assert endpoint.bodies == []
    assert (encoder.dimension, encoder.dimension) == (3, 3)
    assert [body["input"] for body in endpoint.bodies] == [["dimension"]]
    assert encoder.encode([]).vectors.shape == (0, 3)


def test_a_dimension_other_than_the_setting_is_refused(endpoint: Endpoint) -> None:
    made = OpenAIEncoder(endpoint.url + "/", "small", None, dimension=4)
    assert made.dimension == 4
    with pytest.raises(EncoderFailed, match="with 3 numbers a vector instead of 4"):
        made.encode(["a"])
    assert endpoint.keys == [None]
    made.close()


def test_it_tries_again_and_waits_as_long_as_it_is_told(
    endpoint: Endpoint, encoder: OpenAIEncoder, waits: list[float]
) -> None:
    endpoint.script = [(429, "slow down", {"Retry-After": "2"}), (503, "", {"Retry-After": "3600"}), (500, "", {})]
    assert encoder.encode(["abc"]).vectors.tolist() == [[3, 1, 2]]
    assert waits == [2, 5, 1]
    assert len(endpoint.bodies) == 4


def test_it_gives_up_after_three_retries(endpoint: Endpoint, encoder: OpenAIEncoder, waits: list[float]) -> None:
    endpoint.script = [(503, "overloaded", {})] * 9
    with pytest.raises(EncoderFailed, match=r"^the embeddings endpoint answered 503: overloaded$"):
        encoder.encode(["abc"])
    assert waits == [0.25, 0.5, 1]
    assert len(endpoint.bodies) == 4


def test_no_answer_at_all_is_tried_again(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Endpoint() as server:
        url = server.url
    made = OpenAIEncoder(url, "small", KEY)
    with pytest.raises(EncoderFailed, match="did not answer: ConnectError"):
        made.encode(["abc"])
    assert len(waits) == 3
    made.close()


def test_a_refusal_is_not_tried_again_and_never_shows_the_key(endpoint: Endpoint, encoder: OpenAIEncoder) -> None:
    endpoint.script = [(401, f"{'x' * 190} no such key: {KEY}", {})]
    with pytest.raises(EncoderFailed) as caught:
        encoder.encode(["abc"])
    assert caught.value.detail == f"the embeddings endpoint answered 401: {'x' * 190} no such k"
    endpoint.script = [(401, f"no such key: {KEY}", {})]
    with pytest.raises(EncoderFailed) as caught:
        encoder.encode(["abc"])
    assert caught.value.detail == "the embeddings endpoint answered 401: no such key: [key]"
    assert len(endpoint.bodies) == 2
    assert KEY not in repr(caught.value) + repr(caught.value.__context__) + repr(encoder)
    assert repr(encoder) == f"OpenAIEncoder(URL('{endpoint.url}/embeddings'), 'small')"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("<html>", "which holds no list of embeddings: <html>"),
        ('{"error": 1}', "which holds no list of embeddings"),
        ('{"data": [{"embedding": [1, 2, 3]}]}', "which holds no list of embeddings"),
        ('{"data": [{"index": 0, "embedding": ["a", 2]}]}', "which holds no list of embeddings"),
        (
            '{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]}',
            "holds no list of embeddings",
        ),
        ('{"data": [{"index": 0, "embedding": [1, 2]}]}', "does not hold one embedding for each of 2 texts"),
        ('{"data": [{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [1]}]}', "for each of 2 texts"),
        ('{"data": [{"index": 0, "embedding": 1}, {"index": 1, "embedding": 1}]}', "for each of 2 texts"),
        ('{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1]}]}', "zero or not finite"),
        ('{"data": [{"index": 0, "embedding": [1e300]}, {"index": 1, "embedding": [1]}]}', "zero or not finite"),
        ('{"data": [{"index": 0, "embedding": [0, 0]}, {"index": 1, "embedding": [1, 1]}]}', "zero or not finite"),
    ],
)
def test_a_malformed_answer_is_refused(endpoint: Endpoint, encoder: OpenAIEncoder, answer: str, what: str) -> None:
    endpoint.script = [(200, answer, {})]
    with pytest.raises(EncoderFailed) as caught:
        encoder.encode(["a", "b"])
    assert "answered 200 " in caught.value.detail
    assert what in caught.value.detail


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="an HTTP header cannot carry") as caught:
        OpenAIEncoder("http://127.0.0.1:1/v1", "small", KEY + "\n")
    assert KEY not in str(caught.value)
