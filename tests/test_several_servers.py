"""Several processes over one database, real ones: they agree, and go on where one of them or the database ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import make_url

from tests.conftest import Server, clustered, start_server
from tests.postgres import Postgres

VECTORS = clustered(2_000, 16, seed=5)


def items(first: int, last: int) -> list[dict[str, Any]]:
    return [{"id": f"i{n}", "vector": VECTORS[n].tolist()} for n in range(first, last)]


def nearest(server: Server, n: int) -> Any:
    found = server.post("/search", {"collection": "c", "vector": VECTORS[n].tolist(), "k": 5})
    return [hit["id"] for hit in found["hits"]], found["generation"]


def until(done: Callable[[], bool], seconds: float = 20) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds
        time.sleep(0.03)
    return time.monotonic() - began


@pytest.fixture(params=["sqlite", "postgresql"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Two servers over one database: of one data folder, or of two and a PostgreSQL."""
    if request.param == "sqlite":
        folders, settings = [tmp_path / "data"] * 2, {}
    else:
        folders = [tmp_path / "a", tmp_path / "b"]
        settings = {"DATABASE_URL": request.getfixturevalue("postgres").new_database(), "LEASE_SECONDS": "5"}
    servers = [start_server(folder, **settings) for folder in folders]
    yield servers
    for server in servers:
        if server.process.poll() is None:
            assert server.stop() == 0, server.log.read_text()


def test_two_servers_agree(pair: list[Server]) -> None:
    first, second = pair
    first.post("/ingest", {"collection": "c", "items": items(0, 1000)})
    assert nearest(second, 0) == nearest(first, 0)
    second.post("/ingest", {"collection": "c", "items": items(1000, 1500)})
    second.post("/collections/c/items/delete", {"ids": ["i0", "i1"]})
    until(lambda: nearest(first, 1200)[0][0] == "i1200", seconds=5)
    until(lambda: nearest(first, 0) == nearest(second, 0), seconds=5)
    first.trained("c", codec={"bytes": 8}, training={"epochs": 2})
    until(lambda: nearest(second, 7)[1] == nearest(first, 7)[1] is not None, seconds=10)
    for n in (3, 700, 1400):
        assert nearest(first, n) == nearest(second, n)


def test_a_job_outlives_the_server_that_ran_it(pair: list[Server]) -> None:
    first, second = pair
    first.post("/ingest", {"collection": "c", "items": items(0, 2000)})
    longer = {"codec": {"decoder_hidden": [1024]}, "training": {"epochs": 40, "learning_rate": 1e-4}}
    job = first.post("/collections/c/train", longer, 202)["id"]
    until(lambda: first.get(f"/jobs/{job}")["progress"] > 0.05)
    owner, other = (first, second) if "started as process" in first.log.read_text() else (second, first)
    if first.data_dir == second.data_dir:  # one log for both: the one that has the child has the job
        owner, other = (first, second) if first.spawned() else (second, first)
    owner.stop(signal.SIGKILL)
    ended = other.finished(job, seconds=100)  # on another machine after its lease
    assert ended["state"] == "succeeded", ended
    assert nearest(other, 5)[0][0] == "i5"


def test_workers_agree_and_are_replaced(new_server: Callable[..., Server]) -> None:
    server = new_server(WORKERS="2")
    until(lambda: "listens on" in server.log.read_text())
    server.post("/ingest", {"collection": "c", "items": items(0, 500)})
    both = server.spawned()
    assert len(both) == 2
    answers = []
    for n in range(40):  # a connection of its own each time, so that both workers answer
        with httpx.Client(base_url=server.url) as client:
            body = {"collection": "c", "vector": VECTORS[n].tolist(), "k": 1}
            answers.append(client.post("/search", json=body).json()["hits"][0]["id"])
    assert answers == [f"i{n}" for n in range(40)]
    searches = 'codewell_http_requests_total{method="POST",route="/search",status="200"}'
    for _ in range(3):  # whichever of them is asked answers for both
        with httpx.Client(base_url=server.url) as client:
            told = replace(server, client=client).metrics()
        assert (told[searches], told['codewell_search_queries_total{collection="c"}']) == (40, 40)
        assert told['codewell_items_written_total{collection="c",result="inserted"}'] == 500
        assert told['codewell_search_duration_seconds_bucket{collection="c",le="+Inf"}'] == 40
        assert (told["codewell_workers"], told['codewell_view_applied_seq{collection="c"}']) == (2, 500)
        assert (told['codewell_view_lag_changes{collection="c"}'], told["codewell_database_up"]) == (0, 1)

    os.kill(both[0], signal.SIGKILL)
    until(lambda: len(set(server.spawned()) - {both[0]}) == 2, seconds=60)
    until(lambda: server.client.get("/readyz").status_code == 200)
    assert nearest(server, 3)[0][0] == "i3"
    until(lambda: server.metrics()["codewell_workers"] == 2)
    assert server.metrics()[searches] == 41, "what the killed one had counted stays"
    left = server.spawned()
    server.stop(signal.SIGKILL)  # workers end with their supervisor, however that ends
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
    again = new_server(WORKERS="2")
    assert nearest(again, 3)[0][0] == "i3"
    assert again.stop() == 0, again.log.read_text()


def test_trainings_outlive_any_number_of_orderly_restarts(new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.post("/ingest", {"collection": "c", "items": items(0, 2000)})
    longer = {"codec": {"decoder_hidden": [1024]}, "training": {"epochs": 40, "learning_rate": 1e-4}}
    job = server.post("/collections/c/train", longer, 202)["id"]
    for _ in range(4):
        until(lambda server=server: server.get(f"/jobs/{job}")["state"] == "running")  # type: ignore[misc]
        os.killpg(server.process.pid, signal.SIGTERM)  # as systemd does: the job's process gets it too
        assert server.process.wait(20) == 0, server.log.read_text()
        server.client.close()
        server = new_server()
    assert server.finished(job, seconds=100)["state"] == "succeeded"
    assert server.stop() == 0


def test_two_databases_over_one_data_folder_run_their_own_jobs(tmp_path: Path, postgres: Postgres) -> None:
    servers = [start_server(tmp_path / "data", DATABASE_URL=postgres.new_database()) for _ in range(2)]
    for server in servers:
        server.post("/ingest", {"collection": "c", "items": items(0, 300)})
        server.trained("c", codec={"bytes": 8}, training={"epochs": 2})
    for server in servers:
        assert server.stop() == 0, server.log.read_text()


def test_what_is_wrong_with_a_postgresql_url_is_said(tmp_path: Path, postgres: Postgres) -> None:
    there = postgres.new_database()
    for url, reason in (
        (make_url(there).set(database="missing").render_as_string(hide_password=False), "does not exist"),
        ("postgresql://me:secret@no-such-host.invalid/x", "no-such-host.invalid"),
        ("postgresql://me:secret@127.0.0.1:1/x", "refused"),
        ("mysql://me:secret@h/x", "neither sqlite:///FILE nor postgresql"),
    ):
        environment = os.environ | {"CODEWELL_DATABASE_URL": url, "CODEWELL_DATA_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "service.cli", "serve", "--port", "0"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, reason in ran.stderr, "secret" in ran.stderr) == (1, True, False), ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_a_worker_is_replaced_while_the_database_is_away(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    postgres = Postgres(tmp_path_factory.mktemp("away"))
    server = start_server(tmp_path / "data", DATABASE_URL=postgres.new_database(), WORKERS="2")
    until(lambda: "listens on" in server.log.read_text())
    server.post("/ingest", {"collection": "c", "items": items(0, 10)})
    before = server.spawned()
    postgres.kill()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(server.spawned()) - {before[0]}) == 2, seconds=60)
    until(lambda: server.log.read_text().count("Application startup complete") == 3, seconds=60)
    postgres.start()
    until(lambda: server.client.get("/readyz").status_code == 200)
    assert nearest(server, 3)[0][0] == "i3"
    assert server.stop() == 0, server.log.read_text()
    postgres.stop()


def test_postgres_is_killed_under_two_servers(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    postgres = Postgres(tmp_path_factory.mktemp("killed"))
    url = postgres.new_database()
    servers = [start_server(tmp_path / name, DATABASE_URL=url) for name in "ab"]
    acknowledged: list[int] = []
    refused: list[tuple[int, str | None]] = []
    stopping = False

    def write(server: Server, first: int) -> None:
        n = first
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not stopping:
                answer = client.post("/ingest", json={"collection": "c", "items": items(n, n + 1)})
                if answer.status_code == 200:
                    acknowledged.append(n)
                    n += 1
                else:
                    refused.append((answer.status_code, answer.headers.get("Retry-After")))
                    time.sleep(0.05)

    servers[0].post("/ingest", {"collection": "c", "items": items(0, 1)})
    threads = [Thread(target=write, args=(servers[0], 1)), Thread(target=write, args=(servers[1], 1000))]
    for thread in threads:
        thread.start()
    for _ in range(2):
        seen = len(acknowledged)
        until(lambda seen=seen: len(acknowledged) > seen + 20)  # type: ignore[misc]
        postgres.kill()
        assert servers[0].client.get("/readyz").status_code == 503
        time.sleep(0.3)
        postgres.start()
    seen = len(acknowledged)
    until(lambda: len(acknowledged) > seen + 20)
    stopping = True
    for thread in threads:
        thread.join()

    assert set(refused) == {(503, "1")}
    expected = {f"i{n}" for n in (0, *acknowledged)}
    for server in servers:
        read = server.post("/collections/c/items/get", {"ids": sorted(expected), "include": ["vector"]})
        assert read["missing"] == []
        for item in read["items"]:
            np.testing.assert_array_equal(np.array(item["vector"], np.float32), VECTORS[int(item["id"][1:])])
    until(lambda: all(nearest(server, n)[0][0] == f"i{n}" for server in servers for n in acknowledged[-3:]), seconds=5)
    # One whose commit was cut off may be there unacknowledged, and was sent again; nothing else may be.
    assert servers[0].get("/collections/c")["items"] == len(expected)
    for server in servers:
        assert server.stop() == 0, server.log.read_text()
        assert not re.search(r"Traceback", server.log.read_text().partition("could not look")[0])
    postgres.stop()
