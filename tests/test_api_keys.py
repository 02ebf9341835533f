"""Who may call what, over HTTP: every route by every scope, every place that names a collection, every way to be wrong.

One server that listens on all addresses, and so made itself a first key; the tests that need another process start one
over the same database.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket

from service.api import health
from service.api.access import OPEN, READ, check_routes
from service.api.app import create_app
from service.api.headers import HEADERS
from service.settings import Settings
from tests.conftest import Server, start_server

NEEDED = {
    "POST /ingest": "write",
    "POST /search": "read",
    "POST /collections": "admin",
    "GET /collections": "read",
    "GET /collections/{name}": "read",
    "PATCH /collections/{name}": "admin",
    "DELETE /collections/{name}": "admin",
    "POST /collections/{name}/train": "admin",
    "POST /collections/{name}/queries": "admin",
    "GET /collections/{name}/queries": "read",
    "DELETE /collections/{name}/queries": "admin",
    "POST /collections/{name}/plan": "admin",
    "GET /collections/{name}/recall": "read",
    "POST /collections/{name}/rollback": "admin",
    "GET /collections/{name}/certificate": "read",
    "GET /collections/{name}/generations": "read",
    "GET /collections/{name}/items/{item_id}": "read",
    "PATCH /collections/{name}/items/{item_id}": "write",
    "DELETE /collections/{name}/items/{item_id}": "write",
    "POST /collections/{name}/items/get": "read",
    "POST /collections/{name}/items/scroll": "read",
    "POST /collections/{name}/items/count": "read",
    "POST /collections/{name}/items/facets": "read",
    "POST /collections/{name}/items/delete": "write",
    "POST /collections/{name}/encode": "read",
    "POST /collections/{name}/decode": "read",
    "POST /collections/{name}/latents": "read",
    "POST /v1/embeddings": "read",
    "GET /aliases": "read",
    "PUT /aliases/{alias}": "admin",
    "DELETE /aliases/{alias}": "admin",
    "GET /jobs": "read",
    "GET /jobs/{job_id}": "read",
    "DELETE /jobs/{job_id}": "admin",
    "GET /jobs/{job_id}/pictures/{name}": "read",
    "POST /keys": "admin",
    "GET /keys": "admin",
    "DELETE /keys/{key_id}": "admin",
    "GET /livez": "",
    "GET /readyz": "",
    "GET /metrics": "read",
}
SCOPES = ["read", "write", "admin"]
NOBODY = {"authorization": ""}
BODIES = {
    "/items/get": {"ids": ["1"]},
    "/items/scroll": {},
    "/items/count": {},
    "/items/facets": {"path": "legs"},
    "/items/delete": {"ids": ["1"]},
    "/train": {},
    "/plan": {},
    "/rollback": {},
    "/encode": {"vectors": [[1, 1, 1]]},
    "/decode": {"codes": ["AAAA"]},
    "/latents": {},
    "/items/{item_id}": {"metadata": {"legs": 9}},
    "/collections/{name}": {"codec": {"bytes": 1}},
}
"""What each call by path is answered for, by the end of the path."""


class Guarded(Server):
    """A server that asks for keys; its own client shows the first one, of scope admin."""

    def key(self, scope: str, collections: list[str] | None = None, **more: Any) -> tuple[str, dict[str, str]]:
        """The id of a new key, and the header that shows it."""
        made = self.post("/keys", {"name": "a test", "scope": scope, "collections": collections, **more}, 201)
        return made["id"], {"authorization": f"Bearer {made['key']}"}


def with_key(server: Server, token: str) -> Guarded:
    server.client.headers["authorization"] = f"Bearer {token}"
    return Guarded(**vars(server))


@pytest.fixture(scope="module")
def first_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first") / "key"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, first_key: Path) -> Iterator[Guarded]:
    """With the collections `a` and `b`, their aliases `also-a` and `also-b`, and a job of each."""
    started = start_server(
        tmp_path_factory.mktemp("guarded"),
        HOST="0.0.0.0",  # noqa: S104
        FIRST_KEY_FILE=str(first_key),
        LOG_LEVEL="debug",
        STREAM_BATCH="2",
    )
    server = with_key(started, first_key.read_text().strip())
    for name in ("a", "b"):
        server.post("/ingest", {"collection": name, "items": things(name)})
        server.client.put(f"/aliases/also-{name}", json={"collection": name}).raise_for_status()
        server.client.delete(f"/jobs/{server.post(f'/collections/{name}/train', {}, 202)['id']}").raise_for_status()
    yield server
    assert server.stop() == 0, server.log.read_text()


def things(collection: str) -> list[dict[str, Any]]:
    return [{"id": str(n), "vector": [n % 7, n % 5, 1], "metadata": {"of": collection}} for n in range(1, 301)]


def asked(server: Server, method: str, path: str, **request: Any) -> tuple[int, Any]:
    """The status and what the answer says."""
    answer = server.client.request(method, path, **request)
    is_json = "json" in answer.headers.get("content-type", "")
    return answer.status_code, answer.json() if is_json else answer.text or None


# scopes


def test_the_scope_of_every_route_is_the_one_written_here(tmp_path: Path) -> None:
    paths = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert routes == NEEDED.keys()


def test_every_route_asks_for_its_scope_and_no_more(guarded: Guarded) -> None:
    keys = {scope: guarded.key(scope)[1] for scope in SCOPES}
    for route, needed in NEEDED.items():
        method, path = route.split()
        path = re.sub(r"\{\w+\}", "nowhere", path)  # so that what is allowed hurts nothing
        body: Any = {} if method in ("POST", "PUT", "PATCH") else None
        for scope in SCOPES:
            status, said = asked(guarded, method, path, json=body, headers=keys[scope])
            if needed and SCOPES.index(scope) < SCOPES.index(needed):
                detail = f"this needs an API key of the scope {needed}; this one's is {scope}"
                assert (status, said["title"], said["detail"]) == (403, "Forbidden", detail), (route, scope)
            else:
                assert status in (200, 404, 422), (route, scope, said)
        status, said = asked(guarded, method, path, json=body, headers=NOBODY)
        assert status == (401 if needed else 200), route
        assert not needed or "Authorization: Bearer cw_" in said["detail"], route
    stream = {"content-type": "application/x-ndjson"}
    line = b'{"id": "1", "vector": [9, 9, 9]}\n'
    for headers, status in ((keys["read"], 403), (NOBODY, 401), (keys["write"], 200)):
        answer = guarded.client.post("/ingest?collection=streamed", content=line, headers=headers | stream)
        assert answer.status_code == status, answer.text
    assert guarded.post("/collections/streamed/items/count", {})["count"] == 1
    asked_by_nobody = guarded.client.post("/search?collection=a", content=b'{"id": "1"}', headers=NOBODY | stream)
    assert asked_by_nobody.status_code == 401


def test_a_route_that_does_not_say_what_it_needs_keeps_the_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = APIRouter()
    new.add_api_route("/new", lambda: "everyone's", methods=["GET"])
    monkeypatch.setattr(health, "router", new)
    with pytest.raises(TypeError, match="/new does not say what it needs"):
        create_app(Settings(data_dir=tmp_path))

    def talk(socket: WebSocket) -> None:
        """Never called."""

    declared, open_elsewhere, inner, talking, mounting = (FastAPI(openapi_url=None) for _ in range(5))
    declared.add_api_route("/new", lambda: None, dependencies=[READ])
    check_routes(declared)
    open_elsewhere.add_api_route("/new", lambda: None, dependencies=[OPEN])
    outer = APIRouter()
    outer.include_router(new, prefix="/deep")
    inner.include_router(outer)
    talking.add_api_websocket_route("/new", talk)
    mounting.mount("/new", declared)
    for app in (open_elsewhere, inner, talking, mounting):
        with pytest.raises(TypeError, match="/new does not say what it needs"):
            check_routes(app)


# collections


def test_a_key_for_a_collection_reaches_it_by_its_name_and_its_alias(guarded: Guarded) -> None:
    _, mine = guarded.key("admin", ["a"])
    for name in ("a", "also-a"):
        item = asked(guarded, "GET", f"/collections/{name}/items/7", headers=mine)[1]
        assert (item["id"], item["metadata"]) == ("7", {"of": "a"})
        found = asked(guarded, "POST", "/search", json={"collection": name, "id": "1", "k": 1}, headers=mine)[1]
        assert [hit["metadata"] for hit in found["hits"]] == [{"of": "a"}]
        facets = asked(guarded, "POST", f"/collections/{name}/items/facets", json={"path": "of"}, headers=mine)[1]
        assert facets == {"facets": [{"value": "a", "count": 300}]}
    listed = asked(guarded, "GET", "/collections", headers=mine)[1]["collections"]
    assert [one["name"] for one in listed] == ["a"]
    assert asked(guarded, "GET", "/aliases", headers=mine)[1] == {"aliases": {"also-a": "a"}}
    (job,) = asked(guarded, "GET", "/jobs", headers=mine)[1]["jobs"]
    assert job["collection"] == "a"
    assert asked(guarded, "GET", f"/jobs/{job['id']}", headers=mine)[1]["id"] == job["id"]
    assert asked(guarded, "GET", "/readyz", headers=mine)[1]["collections"] is None
    assert guarded.get("/readyz")["collections"] >= 2


def test_nothing_of_another_collection_is_reached_by_any_way(guarded: Guarded) -> None:
    before = guarded.get("/collections/b")
    (job,) = guarded.get("/jobs?collection=b")["jobs"]
    _, mine = guarded.key("admin", ["a"])
    stream = {"content-type": "application/x-ndjson"}

    def refused(method: str, path: str, name: str, field: str, **request: Any) -> None:
        status, said = asked(guarded, method, path, headers=mine | request.pop("headers", {}), **request)
        assert (status, said["field"]) == (403, field), (method, path, said)
        assert said["detail"] == f"this API key does not reach a collection or alias {name!r}"

    for name in ("b", "also-b", "missing", "A"):  # whether it exists is not said
        for route in NEEDED:
            method, path = route.split()
            if "{name}" in path and not path.startswith("/jobs"):
                body = next((body for end, body in BODIES.items() if path.endswith(end)), None)
                request = {} if method in ("GET", "DELETE") else {"json": body}
                path = path.replace("{name}", name).replace("{item_id}", "1")
                refused(method, path, name, "collection", **request)
        refused("GET", f"/jobs?collection={name}", name, "collection")
        refused("POST", "/ingest", name, "collection", json={"collection": name, "items": things("x")[:1]})
        line = {"content": b'{"id": "1", "vector": [9, 9, 9]}\n', "headers": stream}
        refused("POST", f"/ingest?collection={name}", name, "collection", **line)
        questions = b'{"vector": [1, 1, 1]}\n{"collection": "a", "id": "7", "k": 1}\n'
        answer = guarded.client.post(f"/search?collection={name}", headers=mine | stream, content=questions)
        first, second = map(json.loads, answer.text.splitlines())
        assert (first["status"], first["field"], second["hits"][0]["metadata"]) == (403, "collection", {"of": "a"})
        refused("POST", "/search", name, "collection", json={"collection": name, "vector": [1, 1, 1]})
        queries = [{"vector": [1, 1, 1]}, {"vector": [1, 1, 1], "collection": name}]
        refused("POST", "/search", name, "queries[1].collection", json={"collection": "a", "queries": queries})
        refused("POST", "/v1/embeddings", name, "model", json={"model": name, "input": "x"})
        refused("POST", "/collections", name, "name", json={"name": name, "dimension": 3})

    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/pictures/loss")):
        status, said = asked(guarded, method, f"/jobs/{job['id']}{path}", headers=mine)
        assert (status, said["detail"]) == (404, f"there is no job {job['id']!r}; GET /jobs lists them")
    for method, path, body in (
        ("PUT", "/aliases/also-b", {"collection": "a"}),
        ("PUT", "/aliases/mine", {"collection": "b"}),
        ("DELETE", "/aliases/also-b", None),
        ("POST", "/keys", {"name": "more", "scope": "admin"}),
        ("GET", "/keys", None),
        ("DELETE", f"/keys/{'0' * 12}", None),
    ):
        status, said = asked(guarded, method, path, headers=mine, json=body)
        assert (status, "this one is for ['a']" in said["detail"]) == (403, True), (method, path, said)
    assert guarded.get("/collections/b") == before
    assert guarded.get("/aliases")["aliases"] == {"also-a": "a", "also-b": "b"}
    assert guarded.get("/jobs?collection=b")["jobs"] == [job]


def test_an_alias_is_reached_as_long_as_it_stands_for_what_is_reached(guarded: Guarded) -> None:
    _, mine = guarded.key("read", ["a", "b-next"])
    question = {"collection": "moved", "id": "1", "k": 1}
    guarded.client.put("/aliases/moved", json={"collection": "a"}).raise_for_status()
    assert asked(guarded, "POST", "/search", json=question, headers=mine)[0] == 200
    guarded.client.put("/aliases/moved", json={"collection": "b"}).raise_for_status()
    assert asked(guarded, "POST", "/search", json=question, headers=mine)[0] == 403
    # Nor does a name in the key open what it stands for once it is an alias.
    guarded.client.put("/aliases/b-next", json={"collection": "b"}).raise_for_status()
    assert asked(guarded, "GET", "/collections/b-next", headers=mine)[0] == 403
    for alias in ("moved", "b-next"):
        guarded.client.delete(f"/aliases/{alias}").raise_for_status()


def test_the_first_ingest_makes_a_collection_only_where_the_key_names_it(guarded: Guarded) -> None:
    _, mine = guarded.key("write", ["mine"])
    made = {"collection": "mine", "items": things("mine")[:3]}
    assert asked(guarded, "POST", "/ingest", json=made, headers=mine)[1]["counts"]["inserted"] == 3
    assert asked(guarded, "POST", "/ingest", json=made | {"collection": "yours"}, headers=mine)[0] == 403
    assert asked(guarded, "GET", "/collections/yours")[0] == 404


# keys


def test_a_key_counts_in_these_forms_and_in_no_other(guarded: Guarded) -> None:
    _, good = guarded.key("read")
    token = good["authorization"].removeprefix("Bearer ")
    basic = base64.b64encode(f"me:{token}".encode()).decode()
    right: list[dict[str, str]] = [
        {"authorization": f"bearer {token}"},
        {"authorization": f"Bearer   {token}"},
        {"authorization": "", "x-api-key": token},
    ]
    wrong: list[dict[str, str] | dict[str, bytes]] = [
        {"authorization": token},
        {"authorization": f"Bearer{token}"},
        {"authorization": f"Bearer {token},{token}"},
        {"authorization": f"Bearer {token.upper()}"},
        {"authorization": f"Bearer {token[:-1]}"},
        {"authorization": f'Bearer "{token}"'},
        {"authorization": f"Bearer\t{token}"},
        {"authorization": f"Token {token}"},
        {"authorization": f"Basic {basic}"},  # a browser would send it for other pages, too
        {"authorization": "Bearer", "x-api-key": token},
        {"authorization": "Bearer nothing", "x-api-key": token},
        {"authorization": f"Bearer {token}\u00a0".encode("latin-1")},
        {"authorization": f"Bearer {token}\u00e9".encode()},
        {"authorization": b"Bearer \xff\xfe"},
        {"authorization": "Bearer " + "cw_" * 20_000},
        {"authorization": "", "x-api-key": ""},
        {"authorization": "", "cookie": f"authorization=Bearer {token}"},
        {"authorization": "", "x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"},
    ]
    for headers in right:
        assert asked(guarded, "GET", "/collections/a", headers=headers)[1]["items"] == 300, headers
    for number, given in enumerate(wrong):
        raw = [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in given.items()]
        answer = guarded.client.get("/collections/a", headers=raw)
        assert (answer.status_code, answer.json()["title"]) == (401, "Unauthorized"), number
        assert answer.headers["www-authenticate"] == "Bearer", number
        assert token not in answer.text
    for name in ("key", "api_key", "access_token", "X-API-Key"):
        assert asked(guarded, "GET", f"/collections/a?{name}={token}", headers=NOBODY)[0] == 401, name
    assert guarded.client.get("/collections/a", headers={"authorization": "x" * 10**6}).status_code in (400, 401)
    assert guarded.get("/collections/a")["items"] == 300


def test_a_path_of_no_route_and_another_spelling_of_one_are_answered_by_no_more(guarded: Guarded) -> None:
    for path in (
        "/nowhere",
        "/collections/",
        "/livez/",
        "//livez",
        "/livez/../collections",
        "/readyz/x",
        "/DOCS",
        "/docs/",
    ):
        assert asked(guarded, "GET", path, headers=NOBODY)[0] == 401, path
    for method in ("OPTIONS", "HEAD", "TRACE", "PUT"):
        assert guarded.client.request(method, "/collections", headers=NOBODY).status_code == 401, method
    assert asked(guarded, "GET", "/%6Civez", headers=NOBODY) == (200, {"status": "alive"})


def test_an_expired_key_and_a_revoked_one_are_as_none_in_every_process_at_once(
    guarded: Guarded, tmp_path: Path
) -> None:
    url = f"sqlite:///{guarded.data_dir / 'codewell.db'}"
    beside = start_server(
        tmp_path, DATABASE_URL=url, CORS_ORIGINS="https://app.example", TRUSTED_HOSTS="search.example,*.example.org"
    )
    try:
        key_id, mine = guarded.key("read")
        _, brief = guarded.key("read", expires_in=0.001)
        for server in (guarded, beside):
            assert asked(server, "GET", "/collections/a", headers=mine)[1]["items"] == 300
        assert asked(beside, "GET", "/collections/a", headers=NOBODY)[0] == 401, "there are keys: loopback needs one"
        assert guarded.client.delete(f"/keys/{key_id}").status_code == 204
        for server in (guarded, beside):
            assert asked(server, "GET", "/collections/a", headers=mine)[0] == 401
            assert asked(server, "GET", "/collections/a", headers=brief)[0] == 401
        (listed,) = (key for key in guarded.get("/keys")["keys"] if key["id"] == key_id)
        assert listed["revoked_at"] == pytest.approx(time.time(), abs=60)
        assert "key" not in listed
        assert asked(guarded, "DELETE", "/keys/cw_x")[0] == 404
        check_origins(guarded, beside)
        check_hosts(beside)
    finally:
        assert beside.stop() == 0, beside.log.read_text()


def check_origins(closed: Guarded, opened: Server) -> None:
    """Pages of the origin that the setting names may call; where there is none, no page may."""
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for server, origin, allowed in (
        (opened, "https://app.example", "https://app.example"),
        (opened, "https://evil.example", None),
        (closed, "https://app.example", None),
    ):
        asks = NOBODY | {"origin": origin}
        answer = server.client.options("/search", headers=asks | preflight)
        assert answer.headers.get("access-control-allow-origin") == allowed, (origin, answer.text)
        assert server.client.get("/livez", headers=asks).headers.get("access-control-allow-origin") == allowed
        assert "access-control-allow-credentials" not in answer.headers
    read = opened.client.get("/collections", headers=NOBODY | {"origin": "https://app.example"})
    assert (read.status_code, read.headers["access-control-allow-origin"]) == (401, "https://app.example")


def check_hosts(server: Server) -> None:
    for host, status in {
        "search.example": 200,
        "SEARCH.example:8000": 200,
        "a.b.example.org": 200,
        "localhost": 200,
        "[::1]:8000": 200,
        "example.org": 421,
        "evilexample.org": 421,
        "search.example.evil": 421,
        "evil.example": 421,
        "": 421,
    }.items():
        answer = server.client.get("/livez", headers={"host": host})
        assert answer.status_code == status, host
    assert answer.json()["field"] == "Host"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_stream_ends_when_its_key_is_revoked_and_keeps_what_it_acknowledges(guarded: Guarded) -> None:
    key_id, mine = guarded.key("write", ["cut"])
    lines = [json.dumps({"id": str(n), "vector": [n, 1]}).encode() + b"\n" for n in range(6)]

    def sent() -> Iterator[bytes]:
        yield b"".join(lines[:2])
        end = time.monotonic() + 30
        while asked(guarded, "POST", "/collections/cut/items/count", json={})[1].get("count") != 2:
            assert time.monotonic() < end
        guarded.client.delete(f"/keys/{key_id}").raise_for_status()
        yield b"".join(lines[2:])

    with httpx.Client(base_url=guarded.url, timeout=60) as client:
        headers = mine | {"content-type": "application/x-ndjson"}
        answer = client.post("/ingest?collection=cut", content=sent(), headers=headers)
    assert (answer.status_code, answer.json()["committed_through_line"]) == (401, 2)
    listed = guarded.post("/collections/cut/items/scroll", {})["items"]
    assert [item["id"] for item in listed] == ["0", "1"]


def test_a_streamed_search_answers_nothing_more_once_its_key_is_revoked(guarded: Guarded) -> None:
    wide = [{"id": str(n), "vector": [n, 1], "metadata": {"words": "x" * 5_000}} for n in range(20)]
    guarded.post("/ingest", {"collection": "wide", "items": wide})
    key_id, mine = guarded.key("read", ["wide"])
    question = json.dumps({"vector": [1, 1], "k": 20})  # answers of 100 KB, more than lies in sockets unread
    content, headers = "\n".join([question] * 300), mine | {"content-type": "application/x-ndjson"}
    with (
        httpx.Client(base_url=guarded.url, timeout=60) as client,
        client.stream("POST", "/search?collection=wide", content=content, headers=headers) as answer,
    ):
        lines = answer.iter_lines()
        said = [json.loads(next(lines))]
        guarded.client.delete(f"/keys/{key_id}").raise_for_status()
        said += map(json.loads, lines)
    found = ["hits" in one for one in said]
    assert found == sorted(found, reverse=True), "once it is refused, it stays so"
    assert (len(said), found[0], found[-1], said[-1]["status"]) == (300, True, False, 401)


def test_bad_keys_to_make_are_refused_by_field(guarded: Guarded) -> None:
    good = {"name": "x", "scope": "read"}
    before = len(guarded.get("/keys")["keys"])
    for change, field in (
        ({"scope": "root"}, "scope"),
        ({"scope": None}, "scope"),
        ({"collections": []}, "collections"),
        ({"collections": ["a/b"]}, "collections[0]"),
        ({"collections": ["also-a"]}, "collections"),
        ({"name": "\x1b[2J"}, "name"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"digest": "00"}, "digest"),
    ):
        assert guarded.post("/keys", good | change, 422)["field"] == field, change
    assert len(guarded.get("/keys")["keys"]) == before


# what is around


def test_every_answer_tells_a_browser_to_do_nothing_with_it(guarded: Guarded) -> None:
    stream = {"content-type": "application/x-ndjson"}
    for answer in (
        guarded.client.get("/collections"),
        guarded.client.get("/collections", headers=NOBODY),
        guarded.client.get("/nowhere"),
        guarded.client.post("/search", content=b"{"),
        guarded.client.post("/ingest?atomic=true", content=b"", headers=stream),
        guarded.client.delete("/collections"),
        guarded.client.get("/readyz"),
    ):
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.text


def test_the_reference_page_takes_a_key_as_a_password_and_runs_only_its_own_script(guarded: Guarded) -> None:
    token = guarded.client.headers["authorization"].removeprefix("Bearer ")
    asks = guarded.client.get("/docs", headers=NOBODY)
    assert (asks.status_code, asks.headers["www-authenticate"].split()[0]) == (401, "Basic")
    with httpx.Client(base_url=guarded.url, auth=("me", token)) as browser:
        page = browser.get("/docs")
        assert page.status_code == 200
        (script,) = re.findall("<script>(.*?)</script>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'self' 'sha256-{digest}'" in page.headers["content-security-policy"]
        for part in (*re.findall(r'(?:src|href)="([^"]+)"', page.text), "/openapi.json"):
            assert browser.get(part).status_code == 200, part
            assert asked(guarded, "GET", part, headers=NOBODY)[0] == 401, part
        assert browser.get("/collections").status_code == 401
    with httpx.Client(base_url=guarded.url, auth=("me", token[:-1])) as browser:
        assert browser.get("/docs").status_code == 401


def test_the_commands_show_the_key_of_the_environment(guarded: Guarded) -> None:
    token = guarded.client.headers["authorization"].removeprefix("Bearer ")

    def status(**key: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
        command = [sys.executable, "-m", "service.cli", "status", "--url", guarded.url]
        return subprocess.run(command, env=kept | key, capture_output=True, text=True, timeout=60, check=False)

    shown = status(CODEWELL_API_KEY=f"{token}\n")
    assert (shown.returncode, "also-a" in shown.stdout or "300" in shown.stdout) == (0, True), shown
    none = status()
    assert (none.returncode, "CODEWELL_API_KEY" in none.stderr) == (1, True), none
    garbled = status(CODEWELL_API_KEY=f"{token}\u00e9")
    assert (garbled.returncode, len(garbled.stderr.splitlines())) == (1, 1), garbled
    assert token not in none.stderr + garbled.stderr


def test_no_key_is_in_the_log(guarded: Guarded, first_key: Path) -> None:
    made, mine = guarded.key("read")
    asked(guarded, "GET", "/collections/a", headers=mine)
    asked(guarded, "GET", "/collections/a", headers={"x-api-key": mine["authorization"][7:]} | NOBODY)
    log = guarded.log.read_text()
    assert f"A first API key, of scope admin, is in {first_key}" in log
    assert "GET /collections/{name} 200" in log, "requests are logged at this level"
    for token in (first_key.read_text().strip(), mine["authorization"].removeprefix("Bearer ")):
        assert token.split("_", 2)[2] not in log
    assert first_key.stat().st_mode & 0o777 == 0o600
    assert made not in log
