"""What metrics and the request log cost a search: rounds with and without them in turns, over one server.

    python -m benchmarks.metrics_cost
    python -m benchmarks.metrics_cost --shared        numbers in files, as several workers write them

A client in a process of its own asks one question after the other. Prints medians of the rounds: searches a second, and
the microseconds of CPU that the server took for one, which other work on the machine disturbs less; and the
microseconds that metrics take of one search, counted in a loop.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIM, ITEMS, CALLS = 384, 5_000, 2_000
CLIENT = """
import http.client, json, random, sys, time
port, dim, searches = map(int, sys.argv[1:])
connection = http.client.HTTPConnection("127.0.0.1", port)
bodies = [json.dumps({"collection": "c", "vector": [random.gauss(0, 1) for _ in range(dim)]}) for _ in range(20)]
for _ in sys.stdin:
    began = time.perf_counter()
    for number in range(searches):
        connection.request("POST", "/search", bodies[number % 20], {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    print(searches / (time.perf_counter() - began), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", action="store_true", help="numbers in files that processes share")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--searches", type=int, default=200, help="of a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.shared:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        told = measured(Path(folder), arguments.rounds, arguments.searches)
    print(json.dumps(told | {"shared": arguments.shared}))


def measured(folder: Path, rounds: int, searches: int) -> dict[str, Any]:
    import uvicorn

    from service.api import signals
    from service.api.app import create_app
    from service.item import NewItem
    from service.metrics import Metrics
    from service.profile import Profile, unobserved
    from service.settings import Settings

    class Nothing(Metrics):
        """Counts nothing."""

        def request(self, method: str, route: str, status: int, seconds: float) -> None:
            """Nothing."""

    app = create_app(Settings(data_dir=folder, encoder="none", train_at=0, threads=1))
    server = uvicorn.Server(uvicorn.Config(app, port=0, access_log=False, log_level="warning"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    codewell = app.state.codewell
    collection = codewell.catalog.create("c", dimension=DIM)
    base: NDArray[np.float32] = np.random.default_rng(0).standard_normal((ITEMS, DIM)).astype(np.float32)
    collection.ingest([NewItem(str(number), None, vector, {}) for number, vector in enumerate(base)])
    profiles: list[Profile] = []
    metrics, nothing = codewell.metrics, Nothing()
    ways: dict[str, tuple[Metrics, Callable[[Profile], None], bool]] = {
        "nothing": (nothing, unobserved, True),
        "metrics": (metrics, metrics.observe, True),
        "metrics and log": (metrics, metrics.observe, False),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    command = [sys.executable, "-c", CLIENT, str(port), str(DIM), str(searches)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        logged(log)
        for number in range(rounds + 1):
            turn = list(ways) if number % 2 else list(reversed(ways))
            for way in turn:
                codewell.metrics, collection._observe, signals.log.disabled = ways[way]
                began = time.process_time()
                client.stdin.write("go\n")
                client.stdin.flush()
                rate = float(client.stdout.readline())
                if number:  # the first round only warms up
                    rates[way].append(rate)
                    cpu[way].append((time.process_time() - began) / searches)
        client.stdin.close()
    collection._observe = profiles.append
    subprocess.run([*command[:-1], "1"], input="go\n", text=True, check=True, capture_output=True)
    server.should_exit = True
    thread.join()
    return {
        "searches_per_second": {way: round(statistics.median(rate), 1) for way, rate in rates.items()},
        "cpu_us": {way: round(1e6 * statistics.median(took), 1) for way, took in cpu.items()},
        "observe_us": round(1e6 * per_call(lambda: metrics.observe(profiles[0])), 1),
        "request_us": round(1e6 * per_call(lambda: metrics.request("POST", "/search", 200, 0.003)), 1),
    }


def logged(file: Any) -> None:
    """Request lines go to a file."""
    import logging

    handler = logging.StreamHandler(file)
    from service.log import JsonFormatter

    handler.setFormatter(JsonFormatter())
    logging.getLogger("service").addHandler(handler)
    logging.getLogger("service").setLevel(logging.INFO)
    logging.getLogger("service").propagate = False


def per_call(call: Callable[[], object]) -> float:
    """Seconds, of the fastest of five rounds."""
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - began) / CALLS)
    return min(rounds)


if __name__ == "__main__":
    main()
