"""A real Prometheus scrapes a real server as deploy/ tells it to, and answers what the dashboard asks it."""

import json
import math
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import Server, clustered
from tests.test_several_servers import until

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs Prometheus: on Debian, apt install prometheus"
)
DEPLOY = Path(__file__).parent.parent / "deploy"
ITEMS, BATCH = 600, 50
LATER = ("Drift of items and queries, in standard deviations", "Spread of codes")
"""What is looked at once a minute."""


@pytest.fixture
def server(new_server: Callable[..., Server]) -> Server:
    """A server that needs keys, with one for this test; a collection with a codec, whose recall was measured."""
    made = new_server()
    made.post("/ingest", {"collection": "c", "items": items(0, ITEMS)})
    made.trained("c", codec={"kind": "faiss", "factory": "PQ4x8"})
    made.get("/collections/c/recall?queries=20&seconds=20")
    key = made.post("/keys", {"name": "test", "scope": "admin"}, 201)["key"]
    made.client.headers["Authorization"] = f"Bearer {key}"
    return made


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    """Its API, once it has looked at the server."""
    key = server.post("/keys", {"name": "prometheus", "scope": "read"}, 201)["key"]
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    config["global"]["scrape_interval"] = "1s"
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    job["authorization"]["credentials_file"] = str(tmp_path / "key")
    (tmp_path / "key").write_text(f"{key}\n")
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=metrics", f"--web.listen-address={address}")
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options], cwd=tmp_path, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=30) as client:
            until(lambda: scrapes(client) >= 1, seconds=60)
            yield client
    finally:
        process.terminate()
        process.wait()


def items(begin: int, end: int) -> list[dict[str, Any]]:
    vectors = clustered(end, 8)[begin:].tolist()
    return [{"id": str(number), "vector": vector} for number, vector in enumerate(vectors, begin)]


def scrapes(client: httpx.Client) -> int:
    """How many succeeded so far."""
    try:
        return int(sum(value for _, value in asked(client, 'sum_over_time(up{job="codewell"}[1h])')))
    except httpx.TransportError:
        return 0


def asked(client: httpx.Client, expression: str) -> list[tuple[dict[str, str], float]]:
    """Labels and values; empty until Prometheus is ready."""
    answer = client.get("/query", params={"query": expression})
    if answer.status_code == 503:
        return []
    told = answer.json()
    assert told["status"] == "success", (expression, told)
    return [(one["metric"], float(one["value"][1])) for one in told["data"]["result"]]


def test_prometheus_takes_the_key_and_answers_every_panel(server: Server, prometheus: httpx.Client) -> None:
    for begin in range(ITEMS, ITEMS + 5 * BATCH, BATCH):  # between two looks, or nothing has a rate
        server.post("/ingest", {"collection": "c", "items": items(begin, begin + BATCH)})
        server.post("/search", {"collection": "c", "id": str(begin), "k": 5})
    before = scrapes(prometheus)
    until(lambda: scrapes(prometheus) >= before + 2, seconds=60)
    panels: list[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "codewell.json").read_text())["panels"]
    told = {
        (panel["title"], target["refId"]): asked(prometheus, target["expr"].replace("$__rate_interval", "1m"))
        for panel in panels
        for target in panel["targets"]
    }
    silent = {title for (title, _), found in told.items() if not any(math.isfinite(value) for _, value in found)}
    assert silent <= set(LATER)
    assert told["Items", "A"] == [({"collection": "c"}, ITEMS + 5 * BATCH)]
    assert told["Database", "A"] == [({}, 1)]
    assert sum(value for _, value in told["Requests", "A"]) > 0
    ((_, sampled),) = asked(prometheus, 'sum(codewell_recall_sample_ratio{collection="c",index="faiss"})')
    assert sampled == pytest.approx(1, abs=0.0003), "what is found and what is lost"
    ((labels, found),) = told["Recall@10: certified, and sampled", "B"]
    assert (labels["collection"], labels["index"]) == ("c", "faiss")
    assert 0.3 < found <= 1
