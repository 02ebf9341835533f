"""Whole bodies that are no JSON object, of another media type, or far too long."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Server
from tests.test_api_problems import post_raw, problem


@pytest.mark.parametrize("path", ["/ingest", "/collections"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "required"),
        (b'{"items": ', "not JSON"),
        (b"{'items': []}", "not JSON"),
        (b"\xff\xfe{", "JSON"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b'{"k": 1' + b"0" * 5000 + b"}", "digits"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"text"', "object"),
    ],
    ids=["empty", "cut", "python", "not-utf8", "brackets", "braces", "5000-digits", "list", "null", "string"],
)
def test_a_body_that_is_no_json_object_is_refused(server: Server, path: str, content: bytes, words: str) -> None:
    problem(post_raw(server, path, content), 422, "body", words)


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"])
def test_another_media_type_is_refused_with_the_right_one(server: Server, media: str) -> None:
    answer = post_raw(server, "/ingest", b'{"items": [{"id": "a", "text": "x"}]}', media)
    assert answer.status_code in (415, 422)
    problem(answer, answer.status_code, "body", "application/json")


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize(
    ("path", "media"),
    [("/ingest", "application/json"), ("/search", "text/plain"), ("/search", "application/x-ndjson")],
)
def test_a_body_of_100_mb_is_too_large(server: Server, path: str, media: str, declared: bool) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    headers = {"content-type": media} | ({"content-length": "100000000"} if declared else {})
    with httpx.Client(base_url=server.url, timeout=30) as client:
        answer = client.post(path, content=parts(), headers=headers)
    problem(answer, 413, "body", "67108864 bytes", "application/x-ndjson")
