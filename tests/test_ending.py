"""A real server that is told to end while a request takes longer than it waits."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.conftest import Server
from tests.test_api_problems import problem


def test_what_a_server_that_ends_waits_for_no_longer_is_told_so(
    new_server: Callable[..., Server],
) -> None:
    server = new_server(SEARCH_MS="60000")
    server.post("/ingest", {"collection": "c", "items": [{"id": "a", "vector": [1, 0]}]})
    waits = {"collection": "c", "vector": [1, 0], "min_seq": 10**6, "wait_ms": 18_000}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{server.url}/search", json=waits, timeout=60)
        time.sleep(2)  # until it is waited for
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        answer = asked.result()
    assert 8 < time.monotonic() - began < 30, "as long as the server waits"
    assert problem(answer, 500, None, "may have been done or not")["title"] == "Cut off"
    assert answer.headers["connection"] == "close"
    assert server.process.wait(30) == 0, "once the thread has ended"
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "POST /search 500" in log
    server.client.close()
