"""POST /ingest as NDJSON: batch by batch, in bounded memory, honest about where it broke off."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.test_api_problems import post_raw, problem

NDJSON = {"content-type": "application/x-ndjson"}


def stream(server: Server, collection: str, content: bytes | Iterator[bytes]) -> httpx.Response:
    """Streams lines into a collection."""
    return server.client.post("/ingest", params={"collection": collection}, content=content, headers=NDJSON)


def line(item_id: str, *vector: float, **others: Any) -> bytes:
    """One line."""
    return json.dumps({"id": item_id, "vector": vector, **others}).encode() + b"\n"


def test_a_stream_is_counted_and_lists_only_rejects(server: Server, name: str) -> None:
    content = line("a", 1, 0) + line("b", 0, 1) + line("c", 1) + line("a", 0, 1) + line("b", 0, 1)
    answer = stream(server, name, content).json()
    assert answer["counts"] == {"inserted": 2, "updated": 1, "unchanged": 1, "rejected": 1}
    assert (answer["collection"], answer["seq"], answer["committed_through_line"]) == (name, 3, 5)
    (result,) = answer["results"]
    assert (result["id"], result["line"], result["status"]) == ("c", 3, "rejected")
    assert result["error"]["field"] == "vector"
    assert result["error"]["detail"] == "the collection takes vectors of 2 numbers, this one has 1"
    (hit,) = server.post("/search", {"collection": name, "vector": [1, 0], "id": None, "k": 1})["hits"]
    assert hit["score"] == 0.0  # the later line of "a" holds


def test_broken_lines_in_the_middle_lose_nothing_else(server: Server, name: str) -> None:
    broken = [
        b'{"id": "x", "vec',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"NaN",
        b'{"id": "y", "vector": [NaN, 1]}',
        b"[" * 100_000,
    ]
    content = line("a", 1, 0) + b"\n".join(broken) + b"\n" + line("b", 0, 1)
    answer = stream(server, name, content).json()
    assert answer["counts"] == {"inserted": 2, "updated": 0, "unchanged": 0, "rejected": 6}
    assert [result["line"] for result in answer["results"]] == [2, 3, 4, 5, 6, 7]
    assert answer["committed_through_line"] == 8
    details = [result["error"]["detail"] for result in answer["results"]]
    assert "not JSON" in details[0]
    assert "NaN" in details[4]
    assert answer["results"][4]["error"]["field"] == "vector"
    read = server.post(f"/collections/{name}/items/get", {"ids": ["a", "b", "x", "y"]})
    assert ([item["id"] for item in read["items"]], read["missing"]) == (["a", "b"], ["x", "y"])


def test_blank_lines_other_line_ends_and_none_at_the_end(server: Server, name: str) -> None:
    content = b"\r\n\n" + line("a", 1, 0).replace(b"\n", b"\r\n") + b"   \n" + line("b", 1).rstrip()
    answer = stream(server, name, content).json()
    assert answer["counts"]["inserted"] == 1
    assert [result["line"] for result in answer["results"]] == [5]
    assert answer["committed_through_line"] == 5


def test_chunks_may_end_anywhere(server: Server, name: str) -> None:
    content = "".join(
        json.dumps({"id": f"ä{n}", "text": f"größe {n} 😀"}, ensure_ascii=False) + "\n" for n in range(30)
    )
    raw = content.encode()
    answer = stream(server, name, (raw[start : start + 7] for start in range(0, len(raw), 7))).json()
    assert answer["counts"]["inserted"] == 30
    assert server.get(f"/collections/{name}/items/ä29")["text"] == "größe 29 😀"


def test_the_media_type_may_have_parameters_and_capitals(server: Server, name: str) -> None:
    answer = post_raw(server, f"/ingest?collection={name}", line("a", 1, 0), "Application/X-NDJSON; charset=utf-8")
    assert answer.json()["counts"]["inserted"] == 1


def test_batches_are_committed_and_found_while_the_stream_goes_on(server: Server, name: str) -> None:
    seen: list[Any] = []

    def lines() -> Iterator[bytes]:
        for number in range(1500):
            yield line(f"{number}", 1, number)
        with httpx.Client(base_url=server.url) as other:
            end = time.monotonic() + 20
            while time.monotonic() < end and not seen:
                if other.get(f"/collections/{name}").json().get("items") == 1000:
                    body = {"collection": name, "vector": [1, 999], "k": 1}
                    seen.append(other.post("/search", json=body).json()["hits"][0]["id"])
                time.sleep(0.01)
        for number in range(1500, 1600):
            yield line(f"{number}", 1, number)

    server.post("/collections", {"name": name, "dimension": 2, "metric": "l2"}, 201)
    answer = stream(server, name, lines()).json()
    assert seen == ["999"]
    assert (answer["counts"]["inserted"], answer["committed_through_line"]) == (1600, 1600)


def test_a_stream_that_breaks_off_says_where(new_server: Callable[..., Server]) -> None:
    server = new_server(MAX_BODY_BYTES="65536", STREAM_BATCH="10")

    def lines() -> Iterator[bytes]:
        yield b"".join(line(f"{number}", 1, number) for number in range(25))
        with httpx.Client(base_url=server.url) as other:
            end = time.monotonic() + 20
            while time.monotonic() < end and other.get("/collections/c").json().get("items") != 20:
                time.sleep(0.01)
        yield b'{"id": "' + b"x" * 70_000
        yield b'"}\n' + line("late", 1, 1)

    body = problem(stream(server, "c", lines()), 413, "line", "65536 bytes")
    through = body["committed_through_line"]
    assert 20 <= through <= 25
    read = server.post("/collections/c/items/get", {"ids": [str(number) for number in range(25)] + ["late"]})
    assert [int(item["id"]) for item in read["items"]] == list(range(through))
    assert server.get("/collections/c")["items"] == through
    # The stream may be longer than a body may be: only its lines are bounded.
    many = b"".join(line(f"m{number}", 1, number, metadata={"a": "x" * 1000}) for number in range(200))
    assert len(many) > 65_536
    assert stream(server, "c", many).json()["counts"]["inserted"] == 200


def test_a_client_that_goes_away_leaves_what_was_committed(server: Server, name: str) -> None:
    class GoneError(Exception):
        pass

    def lines() -> Iterator[bytes]:
        yield b"".join(line(f"{number}", 1, number) for number in range(1500))
        end = time.monotonic() + 20
        while server.get(f"/collections/{name}")["items"] != 1000 and time.monotonic() < end:
            time.sleep(0.02)
        raise GoneError

    server.post("/collections", {"name": name, "dimension": 2, "metric": "l2"}, 201)
    before = server.log.stat().st_size
    with pytest.raises(GoneError), httpx.Client(base_url=server.url) as client:
        client.post("/ingest", params={"collection": name}, content=lines(), headers=NDJSON)
    assert server.get(f"/collections/{name}")["items"] == 1000
    assert server.post("/search", {"collection": name, "vector": [1, 999], "k": 1})["hits"][0]["id"] == "999"
    time.sleep(0.2)  # for what must not come: an error in the log
    assert "Traceback" not in server.log.read_text()[before:]


def test_a_stream_cannot_be_atomic(server: Server, name: str) -> None:
    answer = post_raw(server, f"/ingest?collection={name}&atomic=true", line("a", 1, 0), "application/x-ndjson")
    problem(answer, 422, "atomic", "batch by batch")
    problem(server.client.get(f"/collections/{name}"), 404, "collection", name)


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"], ids=["empty", "blank"])
def test_a_stream_without_an_item_is_refused(server: Server, name: str, content: bytes) -> None:
    problem(stream(server, name, content), 422, "body", "no line with an item")


def test_a_stream_into_a_bad_name_is_refused(server: Server) -> None:
    problem(stream(server, "a b", line("a", 1, 0)), 422, "collection", "pattern")


def test_a_stream_of_bad_lines_alone_says_which(server: Server, name: str) -> None:
    answer = stream(server, name, b"x\n" * 1001 + line("a", 1, 0)).json()
    assert answer.get("counts") == {"inserted": 1, "updated": 0, "unchanged": 0, "rejected": 1001}, answer
    assert answer["results"][0]["line"] == 1


def test_a_long_stream_takes_little_memory(server: Server, name: str) -> None:
    def peak_mb() -> float:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    before = peak_mb()
    padding = b" " * 100_000
    lines = (b'{"id": "%d", %s "vector": [1, %d]}\n' % (number, padding, number) for number in range(1200))
    answer = stream(server, name, lines).json()
    assert answer["counts"]["inserted"] == 1200
    assert peak_mb() - before < 80  # of 120 MB that were sent


def test_a_line_without_an_end_does_not_stop_the_others(server: Server, name: str) -> None:
    slowest = 0.0

    def line_parts() -> Iterator[bytes]:
        nonlocal slowest
        with httpx.Client(base_url=server.url, timeout=30) as other:
            for _ in range(8):
                yield b" " * 4_000_000
                began = time.monotonic()
                assert other.get("/livez").status_code == 200
                slowest = max(slowest, time.monotonic() - began)
        yield line("a", 1, 0)

    assert stream(server, name, line_parts()).json()["counts"]["inserted"] == 1
    assert slowest < 1
