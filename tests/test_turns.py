"""So many requests at a time, so many that wait, each for so long; health waits for nobody."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import httpx
import pytest

from service.api.rates import Bucket
from service.api.turns import Kind, Places
from service.errors import Busy
from tests.conftest import Server, start_server
from tests.test_api_problems import problem

NDJSON = "application/x-ndjson"


def test_turns_are_given_in_order_and_no_more_than_there_are() -> None:
    async def story() -> list[str]:
        places, told = Places(Kind.SEARCHES, most=2, waiting=2, seconds=5), []

        async def one(name: str) -> None:
            try:
                await places.take()
            except Busy as error:
                told.append(f"{name} refused: {error.status} {error.retry_after} {error.detail}")
                return
            told.append(f"{name} in")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            places.leave()
            told.append(f"{name} out")

        await asyncio.gather(*(one(name) for name in "abcde"))
        return told

    told = asyncio.run(story())
    assert [what for what in told if what.endswith(" in")] == ["a in", "b in", "c in", "d in"]
    (refused,) = (what for what in told if "refused" in what)
    assert refused.startswith("e refused: 503 1 2 searches are worked on and 2 wait; try again later")
    assert told.index("a out") < told.index("c in")
    assert told.index("b out") < told.index("d in")


def test_nobody_waits_longer_than_that_and_the_place_is_not_lost() -> None:
    async def story() -> None:
        places = Places(Kind.OTHERS, most=1, waiting=5, seconds=0.01)
        await places.take()
        with pytest.raises(Busy, match=r"no turn came within 0\.01 seconds.*CODEWELL_WAITING_MS"):
            await places.take()
        places.leave()
        await places.take()

    asyncio.run(story())


def test_a_rate_is_kept_with_a_second_of_it_in_hand() -> None:
    bucket = Bucket(100.0)
    assert [bucket.take(3, 100.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(3, 100.0) == pytest.approx(1 / 3)
    assert bucket.take(3, 100.1) == pytest.approx(1 / 3 - 0.1)
    assert bucket.take(3, 100.0 + 1 / 3 + 1e-6) == 0
    assert [bucket.take(3, 500.0) for _ in range(4)] == [0, 0, 0, pytest.approx(1 / 3)]
    slow = Bucket(0.0)
    assert [slow.take(0.01, 0.0), slow.take(0.01, 50.0)] == [0, pytest.approx(50)]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one place for each kind, one that waits, and little room for bodies."""
    limits = {"CONCURRENT_REQUESTS": "1", "WAITING_REQUESTS": "1", "MAX_BODIES_BYTES": "20000", "BODY_SECONDS": "1"}
    server = start_server(tmp_path_factory.mktemp("narrow"), MAX_KEY_ITEMS="5", MAX_CONNECTIONS="20", **limits)
    server.post("/ingest", {"collection": "c", "items": [{"id": "a", "vector": [1, 0]}]})
    yield server
    assert server.stop() == 0, server.log.read_text()


def test_beyond_its_turns_a_server_answers_503_at_once_and_lives(narrow: Server) -> None:
    waits = {"collection": "c", "vector": [1, 0], "min_seq": 10**6, "wait_ms": 700}
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(httpx.post, f"{narrow.url}/search", json=waits, timeout=30) for _ in range(3)]
        assert narrow.get("/livez") == {"status": "alive"}
        assert narrow.get("/readyz")["status"] == "ready"
        assert narrow.get("/collections/c")["items"] == 1, "searches keep nobody but searches from their turns"
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    titles = sorted(answer.json()["title"] for answer in answers)
    assert titles == ["Server busy", "Unavailable", "Unavailable"]
    (busy,) = (answer.json() for answer in answers if answer.json()["title"] == "Server busy")
    assert "1 searches are worked on and 1 wait; try again later" in busy["detail"]
    assert [hit["id"] for hit in narrow.post("/search", {"collection": "c", "vector": [1, 0]})["hits"]] == ["a"]


def test_bodies_have_so_much_room_together(narrow: Server) -> None:
    long = b'{"collection": "c", "items": [{"id": "b", "vector": [1, 1]}' + b" " * 20_000 + b"]}"
    answer = narrow.client.post("/ingest", content=long, headers={"content-type": "application/json"})
    problem(answer, 503, "body", "the 20000 bytes that there are", "CODEWELL_MAX_BODIES_BYTES")
    assert answer.headers["retry-after"] == "1"
    narrow.post("/ingest", {"collection": "c", "items": [{"id": "a", "vector": [1, 0]}]})
    assert narrow.get("/collections/c")["items"] == 1


def test_who_reads_no_answer_is_left(narrow: Server) -> None:
    narrow.post("/ingest", {"collection": "c", "items": [{"id": "a", "vector": [1, 0], "text": "x" * 15_000}]})
    question = b'{"vector":[1,0]}\n'
    head = f"POST /search?collection=c HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: %d\r\n\r\n"
    with closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect(("127.0.0.1", int(narrow.url.rpartition(":")[2])))
        deaf.sendall((head % (1_000 * len(question))).encode() + 1_000 * question)
        assert deaf.recv(12) == b"HTTP/1.1 200"
        refused = narrow.client.post("/search?collection=c", content=question, headers={"content-type": NDJSON})
        problem(refused, 503, None, "1 streams are worked on and 0 wait")
        end = time.monotonic() + 10
        while refused.status_code == 503 and time.monotonic() < end:
            refused = narrow.client.post("/search?collection=c", content=question, headers={"content-type": NDJSON})
        assert [hit["id"] for hit in refused.json()["hits"]] == ["a"]


def test_a_key_has_a_rate_and_quotas(narrow: Server) -> None:
    """The last one here: from its key on, the server needs keys."""
    admin = narrow.post("/keys", {"name": "admin", "scope": "admin"}, 201)
    narrow.client.headers["authorization"] = f"Bearer {admin['key']}"
    limits = {"rate": 2, "max_items": 3, "max_bytes": 0}
    made = narrow.post("/keys", {"name": "small", "scope": "write", "collections": ["mine"], **limits}, 201)
    assert {name: made[name] for name in limits} == limits
    with httpx.Client(base_url=narrow.url, headers={"authorization": f"Bearer {made['key']}"}) as client:
        many = {"collection": "mine", "items": [{"id": str(n), "vector": [1, n]} for n in range(4)]}
        told = problem(
            client.post("/ingest", json=many), 429, None, "would have 4 items, and 3 is the most", "max_items"
        )
        assert told["title"] == "Quota exceeded"
        assert client.post("/ingest", json={**many, "items": many["items"][:3]}).status_code == 200
        refused = client.get("/collections/mine")
        problem(refused, 429, None, "2 requests a second")
        assert (refused.headers["retry-after"], client.get("/readyz").status_code) == ("1", 200)
    assert narrow.get("/collections/mine")["items"] == 3
    # the admin key reaches all collections: those of others count, too
    more = [{"id": str(n), "vector": [1, n]} for n in range(10, 12)]
    problem(
        narrow.client.post("/ingest", json={"collection": "c", "items": more}), 429, None, "would have 6 items, and 5"
    )
    narrow.post("/ingest", {"collection": "c", "items": more[:1]})


def test_wrong_limits_of_a_key_are_named(new_server: Callable[..., Server], server: Server) -> None:
    for field, value in (("rate", 0), ("rate", -1), ("rate", 1e9), ("max_items", -1), ("max_bytes", 2**63)):
        problem(server.client.post("/keys", json={"name": "x", "scope": "read", field: value}), 422, field)


def test_a_connection_too_many_is_told_so_and_the_others_go_on(narrow: Server) -> None:
    where = (str(narrow.client.base_url.host), int(narrow.client.base_url.port or 0))
    with ExitStack() as opened:
        first, *_, last = [opened.enter_context(socket.create_connection(where, timeout=10)) for _ in range(21)]
        refusal = b"".join(iter(lambda: last.recv(1000), b""))
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in refusal
    assert narrow.get("/livez")["status"]
