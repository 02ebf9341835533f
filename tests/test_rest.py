"""The site's REST reference is that of the application: every call, every field, links that lead somewhere."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from docs.rest import rest_page
from service.api.app import create_app
from service.settings import Settings


@cache
def api() -> dict[str, Any]:
    return create_app(Settings(data_dir=Path("unused"))).openapi()


@cache
def page() -> str:
    return rest_page(api())


def section(heading: str) -> str:
    """What stands under a heading of the third rank."""
    return re.split(r"^##", page().split(f"\n### {heading}", 1)[1].split("\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_every_call_has_its_description_and_every_object_its_fields() -> None:
    for path, methods in api()["paths"].items():
        for method, call in methods.items():
            assert call["description"] in section(f"`{method.upper()} {path}`")
    for name, schema in api()["components"]["schemas"].items():
        for field in schema.get("properties", ()):
            assert f"\n| `{field}` | " in section(f"{name} {{"), f"{name}.{field}"


def test_a_call_and_an_object_as_they_are_shown() -> None:
    ingest = section("`POST /ingest`")
    assert "\n| `idempotency-key` | header | string of length from 1 to 255 or null |  |\n" in ingest
    assert "\nBody, `application/json`: [IngestRequest](#ingestrequest)\n" in ingest
    assert '\n      "text": "It holds hands asleep"\n' in ingest
    assert "\nAnswer: 200 `application/json`: [IngestResponse](#ingestresponse)\n" in ingest
    asked = section("IngestRequest {")
    assert (
        "\n| `items` | list of [ItemIn](#itemin) | required | An item that cannot be kept is rejected by itself |"
        in asked
    )
    assert (
        '\n| `mode` | [WriteMode](#writemode) | `"upsert"` | insert rejects what exists, update what does not |'
        in asked
    )
    assert "the words in &lt;b>" in section("HitOut {")
    assert '\n`"cosine"`, `"ip"`, `"l2"`\n' in section("Metric {")


def test_links_lead_to_what_there_is() -> None:
    anchors = re.findall(r"\{#([^}]+)\}", page())
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", page())) <= set(anchors)
