"""A real Prometheus scrapes a real server as deploy/ tells it to, and answers what the dashboard asks it."""

import json
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
ITEMS = 600


@pytest.fixture
def prometheus(new_server: Callable[..., Server], tmp_path: Path) -> Iterator[httpx.Client]:
    """Its API, after two scrapes of a server that needs keys, with a codec and measured recall."""
    server, vectors = new_server(), clustered(ITEMS, 8).tolist()
    server.post("/ingest", {"collection": "c", "items": [{"id": str(n), "vector": v} for n, v in enumerate(vectors)]})
    server.trained("c", codec={"kind": "faiss", "factory": "PQ4x8"})
    server.get("/collections/c/recall?queries=20&seconds=20")
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
            until(lambda: scrapes(client) >= 2, seconds=60)
            yield client
    finally:
        process.terminate()
        process.wait()


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


def test_prometheus_takes_the_key_and_answers_every_panel(prometheus: httpx.Client) -> None:
    panels: list[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "codewell.json").read_text())["panels"]
    told = {
        (panel["title"], target["refId"]): asked(prometheus, target["expr"].replace("$__rate_interval", "1m"))
        for panel in panels
        for target in panel["targets"]
    }
    silent = {title for (title, _), values in told.items() if not values}
    assert silent <= {"Drift of items and queries, in standard deviations", "Spread of codes"}, "a minute's look"
    assert told["Items", "A"] == [({"collection": "c"}, ITEMS)]
    assert told["Database", "A"] == [({}, 1)]
    (sampled,) = asked(prometheus, 'sum(codewell_recall_sample_ratio{collection="c",index="faiss"})')
    assert sampled[1] == pytest.approx(1, abs=0.0003), "what is found and what is lost"
    ((labels, found),) = told["Recall@10: certified, and sampled", "B"]
    assert labels == {"collection": "c", "index": "faiss"}
    assert 0.3 < found <= 1
