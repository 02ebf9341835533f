"""The documentation's examples are run, and what they print is what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
MARK = "<!-- executed by tests/test_docs.py -->"
BLOCK = re.compile(rf"^{MARK}\n```python\n(.*?)^```\n(?:```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if MARK in page.read_text())


class Example(NamedTuple):
    """A block of code and what it prints."""

    code: str
    shown: str


def examples(page: str) -> list[Example]:
    return [Example(code, shown or "") for code, shown in BLOCK.findall(page)]


def printed(blocks: list[Example]) -> list[str]:
    """What each block prints when all run one after the other in a process of their own."""
    between = "\x1e"
    program = f"\nprint({between!r}, end='', flush=True)\n".join(block.code for block in blocks)
    command, environment = [sys.executable, "-W", "error", "-c", program], os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split(between)


def test_there_is_a_page_to_run() -> None:
    assert ROOT / "docs" / "first-autoencoder.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_example_prints_what_the_page_says(page: Path) -> None:
    text = page.read_text()
    blocks = examples(text)
    assert len(blocks) == text.count(MARK), "a marked block is not python with its output in text"
    for block, real in zip(blocks, printed(blocks), strict=True):
        assert real == block.shown, block.code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_python_is_run(page: Path) -> None:
    text = page.read_text()
    assert text.count("```python\n") == text.count(MARK)


def test_a_wrong_page_would_be_noticed() -> None:
    page = f"{MARK}\n```python\nn = 2\nprint(n)\n```\n```text\n3\n```\n\n{MARK}\n```python\nn += 1\n```\n"
    blocks = examples(page)
    assert [block.shown for block in blocks] == ["3\n", ""]
    assert printed(blocks) == ["2\n", ""]
