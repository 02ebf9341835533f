"""What an attacker sends: each is answered as it is written here, the server lives on, and nothing of it is stored.

One server with small limits and short times. What keys keep out is in test_api_keys.py, bad vectors and items in
test_api_bad_input.py.
"""

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from service.settings import Settings
from tests.conftest import Server, start_server
from tests.test_api_problems import post_raw, problem

NDJSON = "application/x-ndjson"
HOSTILE_IDS = ["'; DROP TABLE items; --", '" OR 1=1 --', "%", "_", "../../etc/passwd", "${jndi:ldap://x/a}", "a\\'b"]
KEPT = {"id": "kept", "vector": [1, 0], "metadata": {"home": "river"}}
PASSWD = b"root:"


class Attacked(Server):
    """A server that holds one item, in the collection `c`."""

    def raw(self, content: bytes, seconds: float = 10) -> bytes:
        """All that is answered to bytes until the server closes the connection, as it must."""
        with closing(self.connected()) as connection:
            connection.settimeout(seconds)
            connection.sendall(content)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])))

    def stored(self) -> Any:
        """Every collection with the number of its items, and the item."""
        there = {one["name"]: one["items"] for one in self.get("/collections")["collections"]}
        return there, self.get("/collections/c/items/kept")["metadata"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    limits = {"MAX_BODY_BYTES": "100000", "MAX_COLLECTIONS": "12", "MAX_JSON_PARTS": "20000"}
    times = {"HEAD_SECONDS": "1", "BODY_SECONDS": "1"}
    server = Attacked(**vars(start_server(tmp_path_factory.mktemp("attacked"), **limits, **times)))
    server.post("/ingest", {"collection": "c", "items": [KEPT]})
    yield server
    assert server.stop() == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def attacked(running: Attacked) -> Iterator[Attacked]:
    before, files = running.stored(), sorted(path.name for path in running.data_dir.iterdir())
    yield running
    assert running.stored() == before
    assert sorted(path.name for path in running.data_dir.iterdir()) == files


# names and paths


@pytest.mark.parametrize("name", ["../x", "..", "/etc/passwd", "a/b", "a\0", ".hidden", "a" * 129, "\ud800", "C:\\x"])
def test_a_name_is_no_path(attacked: Attacked, name: str) -> None:
    for path, body, field in (
        ("/collections", {"name": name, "dimension": 2}, "name"),
        ("/ingest", {"collection": name, "items": [KEPT]}, "collection"),
        ("/search", {"collection": name, "vector": [1, 0]}, "collection"),
    ):
        problem(post_raw(attacked, path, json.dumps(body).encode()), 422, field, field)


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/static-offline-docs/../../../../../etc/passwd",
        "/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static-offline-docs//etc/passwd",
        "/jobs/x/pictures/..%2f..%2fetc%2fpasswd",
        "/collections/..%2f..%2f..%2fetc%2fpasswd",
        "/collections/c/items/..%2f..%2f..%2fetc%2fpasswd",
        "http://127.0.0.1:9/etc/passwd",
        "file:///etc/passwd",
    ],
)
def test_a_path_leads_out_of_nothing(attacked: Attacked, target: str) -> None:
    answer = attacked.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert PASSWD not in answer


# the database


def test_ids_that_are_sql_are_ids(attacked: Attacked) -> None:
    items = [{"id": hostile, "vector": [0, 1]} for hostile in HOSTILE_IDS]
    attacked.post("/ingest", {"collection": "c", "items": items})
    found = attacked.post("/collections/c/items/get", {"ids": [*HOSTILE_IDS, "kept"]})
    assert [item["id"] for item in found["items"]] == [*HOSTILE_IDS, "kept"]
    for hostile in HOSTILE_IDS:
        assert attacked.post("/collections/c/items/delete", {"ids": [hostile]})["deleted"] == [hostile]


@pytest.mark.parametrize(
    "wanted",
    [
        {"home": "' OR '1'='1"},
        {"home' OR '1'='1": "river"},
        {"home": {"$in": ["river'; DROP TABLE items; --"]}},
        {"home": {"$gt": "zzz' UNION SELECT digest FROM keys --"}},
        {"home\0": "\0"},
    ],
)
def test_a_filter_that_is_sql_is_a_value(attacked: Attacked, wanted: Any) -> None:
    assert attacked.post("/collections/c/items/count", {"filter": wanted}) == {"count": 0}
    assert attacked.post("/search", {"collection": "c", "vector": [1, 0], "filter": wanted})["hits"] == []
    assert attacked.post("/collections/c/items/delete", {"filter": wanted})["count"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filter": {"$where": "sleep(1000)"}}, "filter.$where"),
        ({"filter": {"home": {"$regex": "(a+)+$"}}}, "filter.home.$regex"),
        ({"filter": {"home": {"$function": "x"}}}, "filter.home.$function"),
        ({"cursor": "1; DROP TABLE items"}, "cursor"),
    ],
)
def test_what_no_filter_has_is_named(attacked: Attacked, body: Any, field: str) -> None:
    problem(attacked.client.post("/collections/c/items/scroll", json=body), 422, field)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_no_database_holds_is_refused_by_both(
    new_server: Callable[..., Server], request: pytest.FixtureRequest, database: str
) -> None:
    server: Server
    if database == "sqlite":
        server = request.getfixturevalue("server")
    else:
        server = new_server(DATABASE_URL=request.getfixturevalue("postgres").new_database())
    server.post("/ingest", {"collection": "nul", "items": [KEPT]})
    for bad in ("\0", "a\0b", "\ud800", "a\udfff"):
        for item in ({"id": bad}, {"text": bad, "id": "x"}):
            content = json.dumps({"collection": "nul", "items": [{"vector": [1, 1], **item}]}).encode()
            problem(post_raw(server, "/ingest", content), 422, f"items[0].{next(iter(item))}")
        asked: dict[str, Any] = {"collection": "nul", "vector": [1, 0], "filter": {bad: bad}}
        assert post_raw(server, "/search", json.dumps(asked).encode()).json()["hits"] == []
        for path, body in (("get", {"ids": [bad]}), ("delete", {"ids": [bad]})):
            problem(post_raw(server, f"/collections/nul/items/{path}", json.dumps(body).encode()), 422, "ids[0]")
    for path in ("/collections/nul/items/a%00b", "/collections/%00", "/jobs/%00", "/jobs?collection=%00"):
        problem(server.client.get(path), 404, None, "NUL")
    (nul, half) = ({"a\0": "\0"}, {"a": "\ud800"})
    items = [{"id": "nul", "vector": [0, 1], "metadata": nul}, {"id": "half", "vector": [0, 1], "metadata": half}]
    answer = post_raw(server, "/ingest", json.dumps({"collection": "nul", "items": items}).encode()).json()
    assert [result["status"] for result in answer["results"]] == ["inserted", "rejected"]
    assert server.get("/collections/nul/items/nul")["metadata"] == nul, "in JSON it is an escape like any other"
    assert server.get("/collections/nul")["items"] == 2


# sizes


@pytest.mark.parametrize("path", ["/ingest", "/search", "/collections", "/keys"])
@pytest.mark.parametrize(
    ("content", "field", "words"),
    [
        (b'{"x":[' + b"0," * 40_000 + b"0]}", "x", "40001 are more than the 10000"),
        (b'{"x":[' + b"[]," * 30_000 + b"[]]}", "body", "CODEWELL_MAX_JSON_PARTS raises it"),
        (b"{" + b",".join(b'"%d":0' % n for n in range(5_000)) + b"}", "body", "5000 fields are more than"),
        (b'{"x":[{' + b",".join(b'"%d":0' % n for n in range(5_000)) + b"}]}", "x[0]", "5000 fields are more than"),
        (b'{"x":' + b"[" * 15_000 + b"]" * 15_000 + b"}", "body", "nested too deep"),
        (b'{"x":1' + b"0" * 5_000 + b"}", "body", "digits"),
    ],
    ids=["numbers", "lists", "fields", "fields-within", "depth", "digits"],
)
def test_json_that_grows_is_refused_before_it_is_looked_into(
    attacked: Attacked, path: str, content: bytes, field: str, words: str
) -> None:
    problem(post_raw(attacked, path, content), 422, field, words)


def test_lines_that_grow_are_refused_alone(attacked: Attacked) -> None:
    fields = b"{" + b",".join(b'"%d":0' % n for n in range(5_000)) + b"}"
    lists = b'{"id": "x", "vector": [1, 0], "metadata": {"x": [' + b"[]," * 25_000 + b"[]]}}"
    answer = post_raw(attacked, "/ingest?collection=c", fields + b"\n" + lists + b"\n", NDJSON).json()
    assert answer["counts"] == {"inserted": 0, "updated": 0, "unchanged": 0, "rejected": 2}
    assert ["fields" in answer["results"][0]["error"]["detail"], answer["results"][1]["error"]["title"]] == [
        True,
        "Limit exceeded",
    ]
    told = post_raw(attacked, "/search?collection=c", fields + b"\n" + b'{"vector": [1, 0]}', NDJSON).text.splitlines()
    assert [json.loads(line).get("status") for line in told] == [422, None]


@pytest.mark.parametrize(
    ("path", "body", "field", "setting"),
    [
        ("/search", {"vector": [1, 0], "k": 10**400}, "k", "MAX_K"),
        ("/search", {"vector": [1, 0], "oversample": 10**400}, "oversample", "MAX_OVERSAMPLE"),
        ("/search", {"vector": [1, 0], "k": 1000, "oversample": 100, "group_by": "a", "group_size": 100}, None, None),
        ("/search", {"queries": [{"vector": [1, 0]}] * 10_001}, "queries", "MAX_QUERIES"),
        ("/search", {"queries": [{"vector": [1], "k": 1000, "oversample": 100}] * 11}, "queries", "MAX_SHORTLIST"),
        ("/collections/c/items/get", {"ids": ["a"] * 10_001}, "ids", "MAX_ITEMS"),
        ("/collections/c/items/scroll", {"limit": 10**400}, "limit", "MAX_ITEMS"),
        ("/collections", {"name": "x", "dimension": 10**400}, "dimension", "MAX_DIMENSION"),
    ],
    ids=["k", "oversample", "shortlist", "queries", "together", "ids", "limit", "dimension"],
)
def test_numbers_without_end_are_limits_with_a_name(
    server: Server, path: str, body: Any, field: str | None, setting: str | None
) -> None:
    server.post("/ingest", {"collection": "c", "items": [KEPT]})
    answer = server.client.post(path, json={"collection": "c", **body} if path == "/search" else body)
    if field is None:
        assert [hit["id"] for hit in answer.json()["hits"]] == ["kept"]
        return
    told = problem(answer, 422, field, f"CODEWELL_{setting} raises it")
    assert (told["title"], told["setting"]) == ("Limit exceeded", f"CODEWELL_{setting}")
    assert told["limit"] == getattr(Settings(), (setting or "").lower())


@pytest.mark.parametrize("name", ["timeout_ms", "wait_ms", "min_seq"])
def test_nobody_waits_for_ever(attacked: Attacked, name: str) -> None:
    content = f'{{"collection": "c", "vector": [1, 0], "wait_ms": 1, "{name}": 1{"0" * 400}}}'.encode()
    if name == "min_seq":
        problem(post_raw(attacked, "/search", content), 503, "min_seq", "has come to seq")
    else:
        problem(post_raw(attacked, "/search", content), 422, name, "less than or equal to")


def test_no_database_is_asked_for_a_generation_that_it_has_no_number_for(attacked: Attacked) -> None:
    for digits in ("0" * 19, "0" * 400):
        content = f'{{"generation": 1{digits}}}'.encode()
        problem(post_raw(attacked, "/collections/c/rollback", content), 422, "generation", "less than or equal to")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
@pytest.mark.parametrize("media", ["application/json", NDJSON])
def test_a_compressed_body_is_not_expanded(attacked: Attacked, encoding: str, media: str) -> None:
    bomb = gzip.compress(b'{"collection": "c", "items": [' + b" " * 50_000_000)
    headers = {"content-type": media, "content-encoding": encoding}
    answer = attacked.client.post("/ingest?collection=c", content=bomb, headers=headers)
    problem(answer, 415, "Content-Encoding", "no compressed bodies")


def test_a_parquet_file_is_no_request(attacked: Attacked) -> None:
    answer = post_raw(attacked, "/ingest", b"PAR1" + bytes(1_000), "application/vnd.apache.parquet")
    problem(answer, 422, "body", "application/json")


def test_chunks_without_end_are_cut_off(attacked: Attacked) -> None:
    head = b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = attacked.raw(head + b"4000\r\n" + b" " * 0x4000 + b"\r\n" + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 30)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"longer than 100000 bytes" in answer


def test_thousands_of_collections_are_as_many_as_are_allowed(attacked: Attacked) -> None:
    for n in range(11):
        attacked.post("/collections", {"name": f"many-{n}", "dimension": 2}, 201)
    for path, body in (
        ("/collections", {"name": "more", "dimension": 2}),
        ("/ingest", {"collection": "more", "items": [KEPT]}),
    ):
        answer = problem(attacked.client.post(path, json=body), 429, "name", "12 collections", "MAX_COLLECTIONS")
        assert answer["title"] == "Quota exceeded"
    problem(attacked.client.post("/ingest?collection=more", content=json.dumps(KEPT), headers={"content-type": NDJSON}),
            429, "name", "12 collections")  # fmt: skip
    for n in range(11):
        assert attacked.client.delete(f"/collections/many-{n}").status_code == 204
    attacked.post("/collections", {"name": "more", "dimension": 2}, 201)
    assert attacked.client.delete("/collections/more").status_code == 204


# time


def test_who_is_slow_is_left_and_keeps_nobody(attacked: Attacked) -> None:
    head = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n"
    slow = {
        "nothing": b"",
        "half a head": b"POST /search HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "half a body": head % (b"search", b"application/json") + b'{"vector": ',
        "half a stream": head % (b"ingest?collection=c", NDJSON.encode()) + b'{"id": "slow", "vec',
    }
    connections = {name: [attacked.connected() for _ in range(30)] for name in slow}
    for name, group in connections.items():
        for connection in group:
            connection.sendall(slow[name])
    began = time.monotonic()
    assert [hit["id"] for hit in attacked.post("/search", {"collection": "c", "vector": [1, 0]})["hits"]] == ["kept"]
    assert attacked.get("/readyz")["status"] == "ready"
    assert time.monotonic() - began < 1, "they wait for nothing that the slow ones hold"
    answers: dict[str, list[bytes]] = {name: [] for name in slow}
    for name, group in connections.items():
        for connection in group:
            connection.settimeout(10)
            try:
                answers[name].append(b"".join(iter(lambda one=connection: one.recv(65_536), b"")))  # type: ignore[misc]
            except ConnectionResetError:
                answers[name].append(b"")
            connection.close()
    assert set(answers["nothing"]) == set(answers["half a head"]) == {b""}
    assert all(b"408" in answer and b"CODEWELL_BODY_SECONDS" in answer for answer in answers["half a body"])
    streams = answers["half a stream"]
    assert sum(b"408" in answer and b'"committed_through_line":0' in answer for answer in streams) == 16
    assert sum(b"503" in answer and b"retry-after: 1" in answer for answer in streams) == 14, "16 have their places"


@pytest.mark.parametrize(
    "text",
    ["(a+)+$" * 500, "*:*", "id:[a TO z]", '"unclosed', "AND OR NOT", "(" * 5_000, "\\", "/.*/", "a~9 b^9", "text:"],
    ids=lambda text: text[:10],
)
def test_a_text_is_no_pattern(attacked: Attacked, text: str) -> None:
    body = {"collection": "c", "text": text, "mode": "text"}
    assert attacked.post("/search", body)["hits"] == []


# HTTP


SMUGGLED = b"DELETE /collections/c HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 50\r\n\r\n12345",
        b"Content-Length: 5, 50\r\n\r\n12345",
        b"Content-Length: +5\r\n\r\n12345",
        b"Content-Length: -5\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Host: y\r\n\r\n",
        b"X: \0\r\n\r\n",
        b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=lambda head: ascii(head[:40]),
)
def test_a_request_within_another_is_not_seen(attacked: Attacked, head: bytes) -> None:
    try:
        answer = attacked.raw(b"POST /livez HTTP/1.1\r\nHost: x\r\n" + head + SMUGGLED)
    except ConnectionResetError:  # it was closed with more to read than it looked at
        answer = b"HTTP/1.1 400 "
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_no_request_makes_the_server_call_or_read(attacked: Attacked) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        for given in (url, "file:///etc/passwd", "/etc/passwd"):
            for path, body, status in (
                ("/collections", {"name": "x", "encoder": given}, 422),
                ("/collections", {"name": "x", "dimension": 8, "codec": {"kind": "faiss", "factory": given}}, 422),
                ("/collections", {"name": "x", "dimension": 8, "codec": {"kind": given}}, 422),
                ("/collections/c/train", {"codec": {"kind": "dense", "load": given}}, 422),
                ("/collections/c/encode", {"vectors": [given]}, 422),
                ("/v1/embeddings", {"model": given, "input": given}, 422),
                ("/ingest", {"collection": "c", "items": [{"id": "x", "vector": given}]}, 422),
                ("/search", {"collection": "c", "text": given, "mode": "text"}, 200),
                ("/search", {"collection": "c", "id": given}, 404),
            ):
                answer = attacked.client.post(path, json=body, headers={"X-Forwarded-Host": given, "Referer": given})
                assert answer.status_code == status, (path, body, answer.text)
                assert PASSWD not in answer.content
        with pytest.raises(BlockingIOError):
            listener.accept()
