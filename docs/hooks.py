"""Pages of the site that are made of the program, and of files outside docs/; MkDocs calls what begins with `on_`."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs.rest import rest_page
from service.api.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parent.parent
OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)]*)\)")
"""A link from docs/ to a file beside it."""
PAGES = {"README.md": "index.md", "README.md#settings": "settings.md"}
"""Where the site has what such a link leads to; other files are named by their paths."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists every decision record."""
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    titles = [record.read_text().splitlines()[0].removeprefix("# ") for record in records]
    entries = [{title: f"decisions/{record.name}"} for title, record in zip(titles, records, strict=True)]
    config.nav = [*(config.nav or ()), {"Decisions": entries}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    made = {
        "settings.md": section("Settings"),
        "commands.md": section("Command line"),
        "rest.md": rest_page(create_app(Settings(data_dir=Path("unused"))).openapi()),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(),
    }
    for name, content in made.items():
        files.append(File.generated(config, name, content=within_docs(content)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leads links out of docs/ to what the site has of them."""
    return OUTSIDE.sub(_inside, markdown)


def _inside(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"[{text}]({PAGES[path]})" if path in PAGES else f"`{path}`"


def within_docs(text: str) -> str:
    """What stands beside docs/, with links as from within it."""
    return text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")


def section(title: str) -> str:
    """A section of the README, up to the next of its rank, as a page."""
    _, found, rest = (ROOT / "README.md").read_text().partition(f"\n## {title}\n")
    if not found:
        raise ValueError(f"README.md has no section {title!r}")
    return f"# {title}\n" + re.split(r"^#{2,3} ", rest, maxsplit=1, flags=re.MULTILINE)[0]
