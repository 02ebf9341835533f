"""Codes cut over HTTP and by the command line, and a server killed while it does so."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.generations import Generations
from service.verification import verify
from tests.conftest import Server
from tests.postgres import Postgres
from tests.test_api_problems import problem
from tests.test_cli import codewell, last_json
from tests.test_cut import BYTES, DIM, SHORT, SPEC, VECTORS, Kept

ITEMS = 300


def test_a_cut_is_a_job_whose_certificate_is_told(server: Server, name: str) -> None:
    path = f"/collections/{name}"
    server.post("/collections", {"name": name, "dimension": DIM, "metric": "l2", "codec": SPEC}, 201)
    items = [{"id": str(row), "vector": VECTORS[row].tolist()} for row in range(ITEMS)]
    server.post("/ingest", {"collection": name, "items": items})
    problem(server.client.patch(path, json={"codec": {"bytes": 2}}), 409, "codec", "train one")
    first = server.trained(name)
    for body, status, field, said in (
        ({"codec": {"bytes": BYTES}}, 422, "codec.bytes", f"can be cut to 1 to {BYTES - 1}"),
        ({"codec": {"bytes": 0}}, 422, "codec.bytes", "greater than or equal to 1"),
        ({"codec": {"bytes": "all"}}, 422, "codec.bytes", "integer"),
        ({"codec": {}}, 422, "codec.bytes", "required"),
        ({}, 422, "codec", "required"),
        ({"codec": {"bytes": 2, "kind": "auto"}}, 422, "codec.kind", "Extra inputs"),
        ({"codec": {"bytes": 2}, "metric": "ip"}, 422, "metric", "Extra inputs"),
    ):
        problem(server.client.patch(path, json=body), status, field, said)
    problem(server.client.patch("/collections/none", json={"codec": {"bytes": 2}}), 404, "collection")

    run = codewell(server, "cut", name, "--bytes", str(SHORT))
    assert run.returncode == 0, run.stderr
    said = last_json(run)
    assert (said["state"], said["before"], said["certificate"]["code_bytes"]) == (
        "succeeded",
        first["generation"],
        SHORT,
    )
    job = server.get(f"/jobs/{said['job']}")
    assert (job["kind"], job["message"], job["result"]["certificate"]) == ("cut", "published", said["certificate"])
    told = server.get(path)
    assert (told["codec"], told["generation"]) == (SPEC | {"bytes": SHORT}, said["generation"])
    assert told["certificate"] == said["certificate"]
    (code,) = server.post(f"{path}/encode", {"vectors": [VECTORS[3].tolist()]})["codes"]
    assert len(code) == 4 * SHORT / 3, "in base64"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_server_killed_while_it_cuts_does_so_after_its_start(
    kind: str, tmp_path: Path, new_server: Callable[..., Server], request: pytest.FixtureRequest
) -> None:
    where: Path | str = tmp_path / "data"
    settings = {}
    if kind == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        where = postgres.new_database()
        settings = {"DATABASE_URL": where}
    (tmp_path / "data").mkdir()
    kept = Kept(where, tmp_path)
    codes = kept.codes(kept.whole)
    server = new_server(**settings)
    answer = server.client.patch("/collections/c", json={"codec": {"bytes": SHORT}})
    assert (answer.status_code, answer.json()["kind"]) == (202, "cut")
    end = time.monotonic() + 60
    while kept.states() == ["published"]:
        assert time.monotonic() < end
        time.sleep(0.005)
    os.killpg(server.process.pid, signal.SIGKILL)  # the job's process too
    server.process.wait()
    server.client.close()
    assert kept.states() == ["published", "building"]
    assert list(verify(kept.database)) == []

    again = new_server(**settings)
    job = again.finished(answer.json()["id"])
    assert (job["state"], job["message"]) == ("succeeded", "published")
    short = job["result"]["generation"]
    assert Generations(kept.database).published("c").id == short
    assert kept.states() == ["kept", "retired", "published"]
    assert kept.codes(short) == {row: code[:SHORT] for row, code in codes.items()}
    assert kept.codes(kept.whole) == codes
    assert list(verify(kept.database)) == []
    kept.close()
