"""The image and the compose file on a real engine: built, brought up, killed, brought up again.

The build takes minutes the first time and leaves its cache. An index for PyTorch is taken from TORCH_INDEX, as
`docker compose` does itself.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import clustered

ROOT = Path(__file__).parent.parent
IMAGE = "codewell-test"
# A build may need the host's network to reach a package index; the image gets a name of its own.
OVERRIDE = f"services:\n  service:\n    image: {IMAGE}\n    build:\n      network: host\n"


def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not docker_answers(), reason="needs Docker: `docker version` fails here"),
]


@dataclass
class Project:
    """The compose file under a project name, on a port and with an override of this test."""

    name: str
    override: Path
    port: int

    @property
    def container(self) -> str:
        return f"{self.name}-service-1"

    def compose(self, *arguments: str) -> str:
        files = ("-f", str(ROOT / "docker-compose.yml"), "-f", str(self.override))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
        environment |= {"CODEWELL_PORT": str(self.port), "CODEWELL_TRAIN_AT": "0"}
        return ran("docker", "compose", "-p", self.name, *files, *arguments, env=environment)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120, trust_env=False)


def ran(*command: str, env: dict[str, str] | None = None) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def posted(client: httpx.Client, path: str, body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    override = tmp_path_factory.mktemp("docker") / "override.yml"
    override.write_text(OVERRIDE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Project(f"codewell-test-{os.getpid()}", override, port)
    made.compose("build")
    made.compose("up", "-d", "--wait")
    yield made
    made.compose("down", "-v")
    ran("docker", "image", "rm", IMAGE)


def test_what_was_ingested_outlives_a_killed_container(project: Project) -> None:
    texts = {"otter": "A river mammal that eats fish", "violin": "A bowed string instrument with four strings"}
    items = [{"id": item_id, "text": text} for item_id, text in texts.items()]
    question = {"text": "animals living in water", "k": 1}
    with project.client() as client:
        assert posted(client, "/ingest", {"items": items})["counts"]["inserted"] == 2
        assert posted(client, "/search", question)["hits"][0]["id"] == "otter"
    ran("docker", "kill", project.container)
    project.compose("up", "-d", "--wait")
    with project.client() as client:
        assert posted(client, "/search", question)["hits"][0]["id"] == "otter"
        assert client.get("/collections/default").json()["items"] == 2


def test_a_training_needs_no_folder_but_the_volume(project: Project) -> None:
    vectors = clustered(300, 8)
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    with project.client() as client:
        posted(client, "/ingest", {"collection": "vectors", "items": items})
        job = posted(client, "/collections/vectors/train", {"training": {"epochs": 2}})
        end = time.monotonic() + 120
        while job["state"] in ("queued", "running") and time.monotonic() < end:
            time.sleep(0.2)
            job = client.get(f"/jobs/{job['id']}").json()
        assert job["state"] == "succeeded", job
        assert job["result"]["pictures"], "the image lacks the extra plots, or cannot draw"


def test_the_container_can_do_little(project: Project) -> None:
    inside = "import os; print(os.getuid(), os.access('/opt/codewell', os.W_OK), os.access('/data', os.W_OK))"
    assert ran("docker", "exec", project.container, "python", "-c", inside).split() == ["10001", "False", "True"]
    privileges = "import pathlib; print(pathlib.Path('/proc/1/status').read_text())"
    status = dict(
        line.split(":\t")
        for line in ran("docker", "exec", project.container, "python", "-c", privileges).splitlines()
        if ":\t" in line
    )
    assert int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    (address,) = project.compose("port", "service", "8000").split()
    assert address == f"127.0.0.1:{project.port}"


def test_a_service_that_does_not_answer_is_unhealthy(project: Project) -> None:
    command = [
        *ran("docker", "inspect", "-f", "{{range .Config.Healthcheck.Test}}{{println .}}{{end}}", IMAGE).splitlines()
    ][1:4]
    assert subprocess.run(["docker", "exec", project.container, *command], check=False).returncode == 0
    nowhere = ["docker", "exec", "-e", "CODEWELL_PORT=8001", project.container, *command]
    assert subprocess.run(nowhere, capture_output=True, check=False).returncode != 0
