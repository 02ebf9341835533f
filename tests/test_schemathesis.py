"""Schemathesis asks a real server what its OpenAPI document allows, and what it does not: nothing is an answer of 5xx.

`make schemathesis` runs it, in minutes; CODEWELL_EXAMPLES=200 asks for longer.
"""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import Server, clustered

pytestmark = [
    pytest.mark.schemathesis,
    pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs Schemathesis: `make schemathesis` installs it"),
    pytest.mark.timeout(3_600),
]
WORDS = ["otter", "river", "fish", "violin", "bow", "string", "trout", "spots", "wren", "bird", "hedge", "song"]
ITEMS = 300
NOT_REACHED = {"POST /collections/{name}/decode", "GET /jobs/{job_id}/pictures/{name}"}
"""No code of the right length is drawn, and no picture here."""
CONFIG = """
continue-on-failure = true
request-timeout = 60
[dictionaries.collections]
values = ["words", "numbers"]
[dictionaries.items]
values = ["1", "2", "3"]
[parameters]
"path.name" = { dictionary = "collections", probability = 0.8 }
"path.item_id" = { dictionary = "items", probability = 0.8 }
"query.collection" = { dictionary = "collections", probability = 0.8 }
"body.collection" = { dictionary = "collections", probability = 0.8 }
[[operations]]
include-name = "DELETE /collections/{name}"
[operations.parameters]
"path.name" = "spare"
"""


def fill(server: Server) -> None:
    """Two collections with codecs, one of words and one of vectors, and one to delete."""
    texts = [" ".join(WORDS[(n * step) % len(WORDS)] for step in (1, 3, 5, 7)) for n in range(1, ITEMS + 1)]
    words = [{"id": str(n), "text": text, "metadata": {"n": n}} for n, text in enumerate(texts)]
    numbers = [{"id": str(n), "vector": vector.tolist()} for n, vector in enumerate(clustered(ITEMS, 8))]
    server.post("/collections", {"name": "spare", "dimension": 8}, 201)
    for name, items, codec in (("words", words, {"kind": "sparse"}), ("numbers", numbers, {"bytes": 4})):
        server.post("/ingest", {"collection": name, "items": items})
        for seed in (1, 2):  # the second, so that there is a way back
            server.trained(name, codec=codec, training={"epochs": 1, "seed": seed})


def answered(report: Path) -> dict[str, Counter[int]]:
    """How often each operation was answered with each status."""
    seen: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for number, interaction in recorder.get("interactions", {}).items():
            case = recorder["cases"][number]["value"]
            answer = interaction.get("response") or {"status_code": 0, "headers": {}}
            late = answer["status_code"] == 503 and "retry-after" in answer["headers"]
            if not (late and case["path"] == "/search"):  # of a `min_seq` to come, or a `timeout_ms` too short
                seen[f"{case['method']} {case['path']}"][answer["status_code"]] += 1
    return seen


def test_no_request_is_answered_by_an_error_of_the_server(new_server: Callable[..., Server], tmp_path: Path) -> None:
    # Without keys, or it would find its own and delete it: what comes after that is answered 401.
    server = new_server(AUTH="off", TFIDF_DIMENSION="64", SEARCH_MS="60000", PLAN_MINUTES="0.05")
    document = server.get("/openapi.json")
    fill(server)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    examples = os.environ.get("CODEWELL_EXAMPLES", "30")
    run = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{server.url}/openapi.json"]
    run += ["--checks", "not_a_server_error", "--max-examples", examples, "--seed", "1", "--no-color"]
    run += ["--generation-database", "none", "--suppress-health-check", "all"]
    run += ["--report", "ndjson", "--report-dir", str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    reports = list(tmp_path.glob("*.ndjson"))
    assert reports, done.stdout + done.stderr
    seen = answered(reports[0])
    lines = (f"{operation}: {dict(sorted(seen[operation].items()))}\n" for operation in sorted(seen))
    sys.stdout.writelines(lines)
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    broken = {one: dict(seen[one]) for one in seen if any(status >= 500 or status == 0 for status in seen[one])}
    assert not broken, done.stdout[-4_000:]
    assert "Traceback" not in server.log.read_text()
    reached = {operation for operation in operations if any(status < 300 for status in seen[operation])}
    assert operations - reached <= NOT_REACHED, "which must answer something well"
