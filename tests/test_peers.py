"""The benchmark of serving: its client, its slices, what it says of recall and of memory."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from threading import Thread

import numpy as np
import pytest

from benchmarks.closed_loop import Asked, asked, request, sliced
from benchmarks.contenders import Chroma, Codewell, Contender, Faiss
from benchmarks.serving import Questions, Row, per_vector, table
from benchmarks.tree import tree


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that answers each request with its own body, cut in two; `refuse` is answered 503."""
    loop, ready = asyncio.new_event_loop(), list[asyncio.Server]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
                status = b"503 Busy" if body == b"refuse" else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:2])
                await writer.drain()
                await asyncio.sleep(0.001)
                writer.write(body[2:])

    async def start() -> int:
        ready.append(await asyncio.start_server(answer, "127.0.0.1", 0))
        port: int = ready[0].sockets[0].getsockname()[1]
        return port

    async def end() -> None:
        ready[0].close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed comes to its end

    thread = Thread(target=loop.run_forever)
    thread.start()
    yield asyncio.run_coroutine_threadsafe(start(), loop).result()
    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_every_client_is_answered_what_it_asked(echo: int) -> None:
    bodies = [f"question {number}".encode() for number in range(7)]
    found = asked(echo, [request("/any", body) for body in bodies], clients=3, least=20)
    assert [bodies[number] for number in found.numbers] == found.answers
    assert sorted(found.numbers) == sorted([number % 7 for number in range(20)])
    assert len(found.took) == len(found.ended) == 20
    assert max(found.ended) <= found.seconds
    assert sum(found.took) > 20 * 0.001


def test_a_refusal_ends_the_measurement(echo: int) -> None:
    with pytest.raises(RuntimeError, match="503 Busy"):
        asked(echo, [request("/any", b"fine"), request("/any", b"refuse")], clients=2, least=10)


def test_slices_have_the_rate_and_the_percentiles_of_their_own_answers() -> None:
    fast = [0.01 * place for place in range(1, 101)]  # 100 a second, then 50
    slow = [1 + 0.02 * place for place in range(1, 51)]
    took = [0.001 * place for place in range(1, 101)] + [0.5] * 50
    found = Asked(2.0, 0.1, [0] * 150, fast + slow, took, [b""] * 150)
    first, second = sliced(found, 2)
    assert [first.rate, second.rate] == pytest.approx([100, 50], abs=1)
    assert [first.p50, first.p99] == pytest.approx([50.5, 99.01], abs=1)
    assert (second.p50, second.p99) == (500, 500)


def test_recall_is_of_the_answers_in_each_contenders_own_form() -> None:
    truth = np.arange(20).reshape(2, 10)
    questions = Questions(np.zeros((2, 4), np.float32), truth)
    kept, lost = list(range(10, 20)), [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]
    forms: dict[Contender, Callable[[list[int]], object]] = {
        Codewell(32, [1]): lambda ids: {"hits": [{"id": str(item), "score": 0.5} for item in ids]},
        Faiss([1]): lambda ids: [[item, 0.5] for item in ids],
        Chroma("chroma"): lambda ids: {"ids": [[str(item) for item in ids]]},
    }
    for contender, form in forms.items():
        answers = [json.dumps(form(ids)).encode() for ids in (kept, lost, lost)]
        found = Asked(1.0, 0.0, [1, 0, 0], [0.1, 0.2, 0.3], [0.1] * 3, answers)
        assert questions.recall(contender, found) == pytest.approx((10 + 5 + 5) / 30)


def test_the_table_has_medians_over_rounds_and_what_a_vector_adds_to_memory() -> None:
    assert per_vector(loaded=5_000_000, without=1_000_000, items=1_000) == 4_000
    parts = sliced(Asked(1.0, 0.0, [0] * 4, [0.25, 0.5, 0.75, 1.0], [0.1, 0.1, 0.3, 0.3], [b""] * 4), 2)
    rows = [Row("Codewell", 1, 3, 4, 0.95, parts, cpu, 0.1, pss) for cpu, pss in ((2, 30), (4, 50), (3, 40))]
    line = table(rows, {("Codewell", 1): 10}, items=4).splitlines()[-1]
    assert line == "| Codewell | 1 | 3 | .950 | 4 | 4 | 200.0 | 200.0 | 3.00 | 0.10 | 10 |"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_tree_has_the_children_of_children() -> None:
    command = "import subprocess, sys; subprocess.run(['sh', '-c', 'echo $$; read line; true'])"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        assert {process.pid, grandchild} <= set(tree([process.pid]))
        process.stdin.write("\n")
        process.stdin.close()
        process.wait()
    assert tree([process.pid]) == []
