"""Commands that a page shows: read from it, run as a reader would run them, compared with what it says they print."""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from service.cli import app

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
STATEMENT = re.compile(r"^(?:[^\n]*<<'(\w+)'\n.*?\n\1|[^\n]+)$", re.DOTALL | re.MULTILINE)
ASKED = re.compile(r"^\$ (.*?)(?:^(\{[^\n]*)\n|(?=^\$ )|\Z)", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"\s+# .*$")
DIFFERS = "…"
"""On a page, for what differs from run to run."""


class Block(NamedTuple):
    """A fenced block of commands, and what they print."""

    language: str
    code: str
    shown: str

    def statements(self) -> list[str]:
        """Its commands one by one without their comments; a program is one."""
        if self.language == "python":
            return [self.code]
        if self.language == "console":
            return [command.strip() for command, _ in ASKED.findall(self.code)]
        return [COMMENT.sub("", found.group()) for found in STATEMENT.finditer(self.code)]

    def answer(self, statement: str) -> str:
        """The JSON that a console shows after a command; empty where it shows none."""
        return next((said for command, said in ASKED.findall(self.code) if command.strip() == statement), "")


def blocks(page: str) -> list[Block]:
    """The page's commands, in order."""
    found = (Block(language, code, shown) for language, code, shown in BLOCK.findall(page))
    return [block for block in found if block.language in ("bash", "sh", "console", "python")]


def ran(statement: str, language: str, folder: Path, substitutes: Mapping[str, str]) -> str:
    """What a statement prints, which must succeed; `codewell` is called within this process."""
    for shown, real in substitutes.items():
        statement = statement.replace(shown, real)
    if statement.startswith("codewell "):
        called = CliRunner().invoke(app, shlex.split(statement)[1:])
        assert called.exit_code == 0, f"{statement}\n{called.output}\n{called.exception}"
        return called.stdout
    command = [sys.executable, "-W", "error", "-c"] if language == "python" else ["bash", "-euc"]
    done = subprocess.run([*command, statement], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{statement}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def missing(shown: str, printed: str) -> str | None:
    """The first line of what is shown that was not printed, in that order."""
    real = iter(printed.splitlines())
    for line in shown.splitlines():
        pattern = re.compile(".*".join(map(re.escape, line.split(DIFFERS))))
        if not any(pattern.fullmatch(one.rstrip()) for one in real):
            return line
    return None
