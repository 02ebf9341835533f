"""The image and the compose file on a real engine: built, brought up, killed, brought up again.

The build takes minutes the first time and leaves its cache. An index for PyTorch is taken from TORCH_INDEX, as
`docker compose` does itself.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import clustered
from tests.pages import ROOT, blocks
from tests.test_readme import DOCKER, NOT_RUN, README

BASE, IMAGE = "python:3.11-slim", "codewell-test"
# A build may need the host's network to reach a package index; the image gets a name of its own.
OVERRIDE = "services:\n" + "".join(
    f"  {service}:\n    image: {IMAGE}\n    build:\n      network: host\n"
    for service in ("service", "service-a", "service-b", "example")
)
MOST_BYTES = 2.0e9
"""That the image may add to its base; PyTorch for GPUs alone has more."""


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
    ports: list[int]
    """Of the service over SQLite, and of the two over PostgreSQL."""
    password: Path
    tokens: dict[bool, str] = field(default_factory=dict)
    """Of the service over SQLite, and of the two over PostgreSQL."""

    @property
    def container(self) -> str:
        return f"{self.name}-service-1"

    @property
    def environment(self) -> dict[str, str]:
        """In which `docker compose` means this project."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
        ports = zip(("CODEWELL_PORT", "CODEWELL_PORT_A", "CODEWELL_PORT_B"), map(str, self.ports), strict=True)
        return (
            own
            | dict(ports)
            | {
                "COMPOSE_PROJECT_NAME": self.name,
                "COMPOSE_FILE": f"{ROOT / 'docker-compose.yml'}{os.pathsep}{self.override}",
                "CODEWELL_TRAIN_AT": "0",
                "POSTGRES_PASSWORD_FILE": str(self.password),
            }
        )

    def compose(self, *arguments: str) -> str:
        return ran("docker", "compose", *arguments, env=self.environment)

    def client(self, which: int = 0) -> httpx.Client:
        """Shows the first key; to the two over PostgreSQL one that was made in a container."""
        if bool(which) not in self.tokens:
            made = ("service-a", "codewell", "key", "create", "--name", "test", "--scope", "admin")
            kept = ("service", "cat", "/data/first-key")
            self.tokens[bool(which)] = self.compose("exec", "-T", *(made if which else kept)).strip()
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports[which]}",
            timeout=120,
            trust_env=False,
            headers={"Authorization": f"Bearer {self.tokens[bool(which)]}"},
        )


def ran(*command: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def posted(client: httpx.Client, path: str, body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("docker")
    override, password = folder / "override.yml", folder / "password"
    override.write_text(OVERRIDE)
    password.write_text("a pass/word: with @ in it\n")
    made = Project(f"codewell-test-{os.getpid()}", override, [free_port() for _ in range(3)], password)
    made.compose("build")
    made.compose("up", "-d", "--wait")
    yield made
    made.compose("--profile", "postgres", "down", "-v")
    ran("docker", "image", "rm", IMAGE)


def test_what_was_ingested_outlives_a_killed_container(project: Project) -> None:
    texts = {"otter": "A river mammal that eats fish", "violin": "A bowed string instrument with four strings"}
    items = [{"id": item_id, "text": text} for item_id, text in texts.items()]
    question = {"text": "animals living in water", "k": 1}
    with project.client() as client:
        assert client.get("/collections", headers={"Authorization": ""}).status_code == 401
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
    assert ran("docker", "inspect", "-f", "{{.HostConfig.ReadonlyRootfs}}", project.container).strip() == "true"
    (address,) = project.compose("port", "service", "8000").split()
    assert address == f"127.0.0.1:{project.ports[0]}"


def test_the_image_is_small_and_for_processors(project: Project) -> None:
    base, built = (int(ran("docker", "image", "inspect", "-f", "{{.Size}}", image)) for image in (BASE, IMAGE))
    assert 0 < built - base < MOST_BYTES, f"{IMAGE} adds {(built - base) / 1e9:.2f} GB to {BASE}"
    inside = "import torch; print(torch.version.cuda)"
    assert ran("docker", "exec", project.container, "python", "-c", inside).strip() == "None"


def test_a_service_that_does_not_answer_is_unhealthy(project: Project) -> None:
    command = [
        *ran("docker", "inspect", "-f", "{{range .Config.Healthcheck.Test}}{{println .}}{{end}}", IMAGE).splitlines()
    ][1:4]
    assert subprocess.run(["docker", "exec", project.container, *command], check=False).returncode == 0
    nowhere = ["docker", "exec", "-e", "CODEWELL_PORT=8001", project.container, *command]
    assert subprocess.run(nowhere, capture_output=True, check=False).returncode != 0


def test_two_services_over_postgresql_outlive_each_other(project: Project) -> None:
    up = ("--profile", "postgres", "up", "-d", "--wait", "service-a", "service-b")
    project.compose(*up)
    vectors = clustered(50, 8)
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    with project.client(1) as first, project.client(2) as second:
        seq = posted(first, "/ingest", {"collection": "c", "items": items})["seq"]
        question = {"collection": "c", "vector": vectors[7].tolist(), "k": 1, "min_seq": seq}
        assert posted(second, "/search", question)["hits"][0]["id"] == "7"
    ran("docker", "kill", f"{project.name}-service-a-1")
    ran("docker", "kill", f"{project.name}-database-1")
    with project.client(2) as second:
        refused = second.post("/ingest", json={"collection": "c", "items": items[:1]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    project.compose(*up)
    for which in (1, 2):
        with project.client(which) as client:
            assert posted(client, "/search", question)["hits"][0]["id"] == "7"
    assert "a pass" not in project.compose("--profile", "postgres", "logs")


def test_the_commands_of_the_readme(project: Project, tmp_path: Path) -> None:
    """In a project of their own, for they begin with nothing; `project` has built its image."""
    ports = [free_port() for _ in range(3)]
    shown = Project(f"{project.name}-readme", project.override, ports, tmp_path / "postgres_password.txt")
    statements = [one for block in blocks(README) for one in block.statements() if NOT_RUN.get(one) == DOCKER]
    try:
        for statement in statements:
            if statement.endswith("run --rm example"):  # words by a smaller encoder: these are 12,000 texts
                with shown.client() as client:
                    posted(client, "/collections", {"name": "wordnet", "encoder": "tfidf"})
            said = ran("bash", "-euc", statement, env=shown.environment, cwd=tmp_path)
            if statement.endswith("run --rm example"):
                assert json.loads(said.splitlines()[-1])["inserted"] == 12_000
            if "first-key" in statement or "key create" in statement:
                which = 1 if "service-a" in statement else 0
                shown.tokens[bool(which)] = said.strip()
                with shown.client(which) as client:
                    assert client.get("/keys").json()["keys"][-1]["scope"] == "admin"
    finally:
        shown.compose("--profile", "postgres", "down", "-v")
    assert sum("docker compose" in statement for statement in statements) == 7
