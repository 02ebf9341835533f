"""Acknowledged means committed: the server is killed right after an answer, and every answer still holds."""

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import psycopg
import pytest

from service.runner import NICE
from tests.conftest import Server, clustered
from tests.postgres import Postgres

ROUNDS = 5
LONGER = {"codec": {"decoder_hidden": [1024]}, "training": {"epochs": 10, "learning_rate": 1e-4}}


def test_what_was_acknowledged_survives_kill_9(new_server: Callable[..., Server]) -> None:
    vectors = clustered(ROUNDS * 120, 16, seed=21)
    kept: dict[str, int] = {}
    deleted: set[str] = set()
    server = new_server()
    for turn in range(ROUNDS):
        first = turn * 120
        items = [
            {"id": f"i{n}", "vector": vectors[n].tolist(), "metadata": {"n": n}} for n in range(first, first + 100)
        ]
        server.post("/ingest", {"collection": "c", "items": items})
        kept |= {f"i{n}": n for n in range(first, first + 100)}
        updated = [
            {"id": f"i{n}", "vector": vectors[n + 100].tolist(), "metadata": {"n": n + 100}}
            for n in range(first, first + 10)
        ]
        server.post("/ingest", {"collection": "c", "items": updated})
        kept |= {f"i{n}": n + 100 for n in range(first, first + 10)}
        gone = [f"i{n}" for n in range(first + 50, first + 60)]
        lines = "".join(
            json.dumps({"id": f"s{n}", "vector": vectors[n].tolist(), "metadata": {"n": n}}) + "\n"
            for n in range(first + 110, first + 120)
        )
        media = {"content-type": "application/x-ndjson"}
        assert (
            server.client.post("/ingest?collection=c", content=lines, headers=media).json()["counts"]["inserted"] == 10
        )
        kept |= {f"s{n}": n for n in range(first + 110, first + 120)}
        seq = server.post("/collections/c/items/delete", {"ids": gone})["seq"]
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        deleted |= set(gone)
        kept = {item_id: n for item_id, n in kept.items() if item_id not in deleted}

        server = new_server()
        described = server.get("/collections/c")
        assert (described["items"], described["seq"]) == (len(kept), seq)
        read = server.post("/collections/c/items/get", {"ids": list(kept), "include": ["metadata", "vector"]})
        assert read["missing"] == []
        assert {item["id"]: item["metadata"]["n"] for item in read["items"]} == kept
        for item in read["items"]:
            np.testing.assert_array_equal(np.array(item["vector"], np.float32), vectors[item["metadata"]["n"]])
        asked = [{"collection": "c", "vector": vectors[n].tolist(), "k": 1, "include": []} for n in kept.values()]
        results = server.post("/search", {"queries": asked})["results"]
        assert [result["hits"][0]["id"] for result in results] == list(kept)
        assert server.post("/collections/c/items/get", {"ids": sorted(deleted)})["items"] == []
        everything = server.post("/search", {"collection": "c", "vector": vectors[0].tolist(), "k": 1000})["hits"]
        assert {hit["id"] for hit in everything} == set(kept)
    server.stop()


def test_a_stream_cut_off_by_kill_9_leaves_whole_batches(new_server: Callable[..., Server]) -> None:
    server = new_server(STREAM_BATCH="50")

    def lines() -> Iterator[bytes]:
        number = 0
        while server.process.poll() is None:
            yield json.dumps({"id": f"{number}", "vector": [1, number]}).encode() + b"\n"
            number += 1

    def send() -> None:
        try:
            with httpx.Client(base_url=server.url, timeout=20) as client:
                media = {"content-type": "application/x-ndjson"}
                client.post("/ingest?collection=c", content=lines(), headers=media)
        except httpx.TransportError:
            pass  # the server is dead

    sender = Thread(target=send)
    sender.start()
    end, seen = time.monotonic() + 20, 0
    while seen < 500 and time.monotonic() < end:
        seen = server.client.get("/collections/c").json().get("items", 0)
    server.stop(signal.SIGKILL)
    sender.join()
    again = new_server()
    described = again.get("/collections/c")
    count = described["items"]
    assert (count % 50, described["seq"]) == (0, count)
    assert count >= seen >= 500
    read = again.post("/collections/c/items/get", {"ids": [f"{number}" for number in range(min(count, 10_000))]})
    assert read["missing"] == []
    answer = again.client.get(f"/collections/c/items/{count}")
    assert answer.status_code == 404


@pytest.mark.parametrize("whole", [True, False], ids=["server", "job"])
def test_a_training_cut_off_by_kill_9_is_taken_up_again(new_server: Callable[..., Server], whole: bool) -> None:
    server = new_server(THREADS="2")
    vectors = clustered(600, 16, seed=22)
    items = [{"id": f"{n}", "vector": vector.tolist()} for n, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": "c", "items": items})
    job = server.post("/collections/c/train", LONGER, 202)
    checkpoint = server.data_dir / "jobs" / job["id"] / "checkpoint" / "training.json"
    end = time.monotonic() + 30
    while not checkpoint.exists() and time.monotonic() < end:
        time.sleep(0.01)
    if whole:
        server.stop(signal.SIGKILL)
    else:
        (process,) = server.spawned()
        own, its = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (server.process.pid, process))
        assert its == min(own + NICE, 19)
        environment = Path(f"/proc/{process}/environ").read_text().split("\0")
        assert {"OPENBLAS_NUM_THREADS=2", "OMP_WAIT_POLICY=PASSIVE"} <= set(environment)
        os.kill(process, signal.SIGKILL)
    errors = [epoch[3] for epoch in json.loads(checkpoint.read_text())["epochs"]]
    again = new_server() if whole else server
    hits = again.post("/search", {"collection": "c", "vector": vectors[3].tolist(), "k": 1})["hits"]
    assert [hit["id"] for hit in hits] == ["3"]
    ended = again.finished(job["id"])
    assert (ended["state"], ended["collection"]) == ("succeeded", "c")
    # It went on from its checkpoint: the epochs before the kill are those of the curve, to the last digit.
    assert len(errors) >= 2
    assert [epoch["held_out_error"] for epoch in ended["result"]["curve"]][: len(errors)] == errors
    assert again.get("/collections/c")["generation"] == ended["result"]["generation"]
    end = time.monotonic() + 10
    while (answer := again.post("/search", {"collection": "c", "vector": vectors[3].tolist(), "k": 1}))[
        "generation"
    ] is None:
        assert time.monotonic() < end
    assert [hit["id"] for hit in answer["hits"]] == ["3"]


def test_a_file_that_may_not_grow_is_507_by_name_and_heals(new_server: Callable[..., Server]) -> None:
    server = new_server()
    vectors = clustered(400, 64)

    def sent(start: int) -> httpx.Response:
        items = [{"id": f"{n}", "vector": vectors[n].tolist(), "text": "x" * 2_000} for n in range(start, start + 100)]
        return server.client.post("/ingest", json={"collection": "c", "items": items})

    assert sent(0).status_code == 200
    files = server.data_dir / "codewell.db", server.data_dir / "codewell.db-wal"
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    largest = max(Path(file).stat().st_size for file in files)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (largest + 50_000, hard))
    refused = sent(100)
    assert (refused.status_code, refused.json()["title"]) == (507, "Storage full"), refused.text
    found = server.post("/search", {"collection": "c", "vector": vectors[7].tolist(), "k": 1})
    assert [hit["id"] for hit in found["hits"]] == ["7"]
    assert server.get("/collections/c")["items"] == 100
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert sent(100).status_code == 200
    found = server.post("/search", {"collection": "c", "vector": vectors[107].tolist(), "k": 1})
    assert [hit["id"] for hit in found["hits"]] == ["107"]


def test_a_database_that_may_only_be_read_answers_searches_and_heals(
    new_server: Callable[..., Server], postgres: Postgres
) -> None:
    url = postgres.new_database()
    server = new_server(DATABASE_URL=url)
    vectors = clustered(20, 8)
    items = [{"id": f"{n}", "vector": vector.tolist()} for n, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": "c", "items": items[:10]})

    def allow(what: str) -> None:
        """For connections from now on; the server's are ended."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
            change = f'ALTER DATABASE "{name}" SET default_transaction_read_only = {what}'
            connection.execute(change.encode())
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s"
            connection.execute(others, [name, connection.info.backend_pid])

    allow("on")
    asked = {"collection": "c", "vector": vectors[3].tolist(), "k": 1}
    refused = server.client.post("/ingest", json={"collection": "c", "items": items[10:]})
    assert refused.status_code == 503, refused.text
    assert "read-only" in refused.json()["detail"]
    assert refused.headers["Retry-After"]
    assert [hit["id"] for hit in server.post("/search", asked)["hits"]] == ["3"]
    allow("off")
    assert server.post("/ingest", {"collection": "c", "items": items[10:]})["counts"]["inserted"] == 10
    assert server.get("/collections/c")["items"] == 20
