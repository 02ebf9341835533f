"""Plans and codecs that nobody named: over HTTP, by the command line, and on both databases."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from models import Metric, TrainingConfig, exact_neighbours, fit, recall
from service.cli import app
from service.codec_spec import codec_spec
from tests.conftest import Server, clustered
from tests.test_api_problems import problem
from tests.test_cli import codewell, last_json

ITEMS, DIM = 600, 16
VECTORS = clustered(ITEMS, DIM, seed=3)


def fill(server: Server, name: str, **about: Any) -> None:
    server.post("/collections", {"name": name, "dimension": DIM, "metric": "l2", **about}, 201)
    items = [
        {"id": str(row), "vector": vector, "metadata": {"third": row % 3}}
        for row, vector in enumerate(VECTORS.tolist())
    ]
    server.post("/ingest", {"collection": name, "items": items})


def planned(server: Server, name: str, body: Any) -> dict[str, Any]:
    job = server.post(f"/collections/{name}/plan", body, 202)
    assert (job["kind"], job["state"], job["collection"]) == ("plan", "queued", name)
    ended = server.finished(job["id"])
    assert ended["state"] == "succeeded", ended
    result: dict[str, Any] = ended["result"]
    assert ended["message"] == " ".join(result["sentences"])
    return result


def test_a_plan_takes_the_cheapest_that_keeps_the_contract(server: Server, name: str) -> None:
    fill(server, name)
    body = {
        "contract": {"recall@10": 0.8, "max_bytes": 4},
        "items": 1_000_000,
        "minutes": 0.1,
        "kinds": ["faiss", "dense"],
    }
    plan = planned(server, name, body)
    assert (plan["counts"], plan["items"]) == ({"seen": 378, "late": 162, "queries": 60}, 1_000_000)
    codes = {code["name"]: code for code in plan["codes"]}
    assert "Codewell dense 4" in codes
    assert {code["code_bytes"] for code in codes.values()} == {4}
    for code in codes.values():
        certified = code["certified"]["recall@10"]
        assert (certified["low"] >= 0.8) == (not code["missing"])
    fit_ones = [code for code in codes.values() if not code["missing"] and code["codec"] is not None]
    cheapest = min(fit_ones, key=lambda code: (round(code["total_bytes"], 1), code["oversample"] or 100))
    assert plan["take"]["codec"] == cheapest["codec"] == plan["order"][0]
    assert plan["sentences"][0].startswith(f"Cheapest that meets recall@10 of 0.8: {cheapest['name']}, ")
    frontier = sorted((code for code in codes.values() if code["frontier"]), key=lambda code: code["total_bytes"])
    kept = [code["recall@10"]["rescored"]["value"] for code in frontier]
    assert kept == sorted(set(kept))
    for code in codes.values():
        assert max(one["recall@10"]["rescored"]["value"] for one in frontier) >= code["recall@10"]["rescored"]["value"]
    check(codes["FAISS PQ4x8"])
    assert server.get(f"/collections/{name}")["generation"] is None


def check(code: dict[str, Any]) -> None:
    """Trains the codec anew, and ranks what it decodes by plain distances."""
    asked = np.linspace(0, ITEMS - 1, 60).astype(int)
    searched = np.delete(VECTORS, asked, axis=0)
    codec = fit(codec_spec(code["codec"]).config(DIM, Metric.L2), searched[:378], Metric.L2, TrainingConfig()).codec
    truth = exact_neighbours(searched, VECTORS[asked], 10, Metric.L2).rows
    decoded = codec.decode(codec.encode(searched))
    found = exact_neighbours(decoded, VECTORS[asked], 100, Metric.L2).rows
    assert code["recall@10"]["codes"]["value"] == pytest.approx(recall(found[:, :10], truth).mean(), abs=0.01)
    assert code["recall@10"]["rescored"]["value"] == pytest.approx(recall(found, truth).mean(), abs=0.01)
    late = np.where(truth >= 378, truth, -1)
    share = (recall(found[:, :10], late) * (late >= 0).sum(axis=1)).sum() / (late >= 0).sum()
    assert code["late_recall@10"] == pytest.approx(share, abs=0.01)
    assert code["total_bytes"] == pytest.approx(4 + 8 + 8 + 1 / 8, abs=0.2)  # code, row id, FAISS's id, live bit


def test_what_no_code_meets_is_said_with_the_nearest(server: Server, name: str) -> None:
    fill(server, name)
    run = codewell(
        server, "plan", "--collection", name, "--kind", "faiss", "--contract", "recall@10=0.99", "--max-bytes", "4",
        "--oversample", "2", "--ram-mb", "0.001", "--json",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    plan = last_json(run)
    assert (plan["take"], len(plan["order"])) == (None, 1)
    assert (plan["asked"]["budgets"], plan["asked"]["oversample"]) == ({"ram_mb": 0.001}, 2)
    assert plan["sentences"][0] == "No code that was tried meets recall@10 of 0.99 within the costs."
    near = next(code for code in plan["codes"] if code["codec"] == plan["order"][0])
    assert near["certified"]["recall@10"]["value"] == max(
        code["certified"]["recall@10"]["value"] for code in plan["codes"] if code["codec"] is not None
    )
    assert f"The nearest is {near['name']}, " in plan["sentences"][1]
    assert [" MB of RAM of 0.001" in missing for missing in near["missing"]] == [False, True]
    assert near["oversample"] is None


def test_a_plan_is_refused_by_field_and_cancelled(server: Server, name: str) -> None:
    path = f"/collections/{name}/plan"
    problem(server.client.post(path, json={}), 404, "collection", name)
    server.post("/collections", {"name": name, "dimension": DIM}, 201)
    problem(server.client.post(path, json={}), 409, "collection", "0 items; a plan needs 200")
    for body, field in (
        ({"contract": {"recall@3": 0.5}}, "contract.recall@3"),
        ({"budgets": {"latency_ms": 0}}, "budgets.latency_ms"),
        ({"kinds": ["sparse"]}, "kinds.0"),
        ({"sample": 199}, "sample"),
        ({"minutes": 0}, "minutes"),
    ):
        problem(server.client.post(path, json=body), 422, field.replace(".0", "[0]"))
    server.post("/ingest", {"collection": name, "items": [{"vector": row.tolist()} for row in VECTORS]})
    job = server.post(path, {}, 202)
    problem(server.client.post(path), 409, None, job["id"])
    server.client.delete(f"/jobs/{job['id']}").raise_for_status()
    assert server.finished(job["id"])["state"] == "cancelled"


def test_a_file_is_planned_for_without_a_server(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    asked = (
        "--metric",
        "l2",
        "--kind",
        "faiss",
        "--total-bytes",
        "25",
        "--max-bytes",
        "8",
        "--items",
        "1000000",
        "--codes-only",
    )
    run = CliRunner().invoke(app, ["plan", str(tmp_path / "v.npy"), *asked, "--threads", "1", "--json"])
    assert run.exit_code == 0, run.stderr
    plan = json.loads(run.stdout)
    assert (plan["stage"], plan["recalls"]) == ("refine", {})
    fit_ones = [code for code in plan["codes"] if not code["missing"] and code["codec"] is not None]
    best = max(fit_ones, key=lambda code: (code["certified"]["recall@10"]["value"], -code["total_bytes"]))
    assert best["total_bytes"] <= 25
    assert plan["take"]["codec"] == best["codec"]
    assert plan["sentences"][0].startswith("Most neighbours within the budgets: ")
    assert plan["sentences"][1] == "None of Codewell's codes was measured."
    wrong = CliRunner().invoke(app, ["plan", str(tmp_path / "v.npy"), "--kind", "sparse"])
    assert (wrong.exit_code, "kinds.0" in wrong.stderr) == (1, True)
    assert CliRunner().invoke(app, ["plan"]).exit_code == 2


def test_a_codec_that_nobody_named_is_planned_for_and_kept(
    new_server: Callable[..., Server], database_url: str
) -> None:
    server = new_server(DATABASE_URL=database_url, TRAIN_AT=str(ITEMS), PLAN_MINUTES="0.01")
    contract = {"recall@10": 0.6, "max_bytes": 4}
    fill(server, "auto", contract=contract)
    assert server.get("/collections/auto")["codec"] == {"kind": "auto"}
    end = time.monotonic() + 20
    while not (jobs := server.get("/jobs?collection=auto")["jobs"]):
        assert time.monotonic() < end
        time.sleep(0.05)
    ended = server.finished(jobs[0]["id"])
    assert ended["state"] == "succeeded", ended
    result = ended["result"]
    assert result["plan"]["asked"]["contract"] == contract
    assert result["codec"] in result["plan"]["order"]
    certificate = server.get("/collections/auto/certificate")["certificate"]
    assert certificate == result["certificate"]
    assert certificate["intervals"]["recall@10"]["low"] >= 0.6
    assert (certificate["code_bytes"], certificate["contract"]) == (4, contract)
    assert certificate["codec"]["kind"] == result["codec"]["kind"]
    check_recall(server)
    check_drift(server)
    before = samples(server)
    assert len(before) == 3
    job = server.post(
        "/collections/auto/train", {"codec": {"kind": "faiss", "factory": "PQ4x8"}, "contract": {"max_bytes": 4}}, 202
    )
    assert server.finished(job["id"])["state"] == "succeeded"
    assert samples(server) == {}, "of this codec nothing was measured"
    job = server.post("/collections/auto/rollback", {}, 202)
    assert server.finished(job["id"])["state"] == "succeeded"
    assert samples(server) == before


def samples(server: Server) -> dict[tuple[str, str], float]:
    """What Prometheus is told of recall: by index and what became of the true neighbours."""
    return {
        (labels["index"], labels["of"]): value
        for family in text_string_to_metric_families(server.client.get("/metrics").text)
        if family.name == "codewell_recall_sample_ratio"
        for _, labels, value, *_ in family.samples
    }


def check_drift(server: Server) -> None:
    none, certified = server.get("/collections/auto")["drift"], server.get("/collections/auto/certificate")
    spread = certified["certificate"]["drift"]["spread"]
    assert none.pop("codes")["certified"] == spread, spread
    assert none == {"status": "fresh", "items": 0, "shifts": {}, "queries": None}

    def drift(vectors: Any) -> Any:
        server.post("/ingest", {"collection": "auto", "items": [{"vector": row.tolist()} for row in vectors]})
        return server.get("/collections/auto")["drift"]

    same = drift(clustered(150, DIM, seed=4))
    assert (same["status"], same["items"]) == ("fresh", 150)
    assert max(map(abs, same["shifts"].values())) < 0.5
    spread = np.random.default_rng(0).standard_normal((350, DIM)) * VECTORS.std()
    other = drift(spread)
    assert (other["status"], other["items"]) == ("stale", 500)
    assert other["shifts"]["error"] > 0.8
    assert drift(VECTORS[:1])["items"] == 500  # not looked at anew
    assert server.get("/collections")["collections"][0]["drift"] is None
    for vector in clustered(60, DIM, seed=5):
        server.post("/search", {"collection": "auto", "vector": vector.tolist(), "k": 1})
    asked = server.get("/collections/auto")["drift"]["queries"]
    assert (asked["status"], asked["queries"], list(asked["shifts"])) == ("fresh", 60, ["nearest"])


def check_recall(server: Server) -> None:
    """Against the decoded vectors, ranked by plain distances."""
    told = server.get("/collections/auto/recall?queries=120&seconds=30")
    oversample = server.get("/collections/auto/generations")["generations"][0]["oversample"]
    assert (told["queries"], told["items"], told["items_chosen"], told["items_left_out"]) == (120, 480, 480, 0)
    assert (told["oversample"], told["stage"], told["index"]) == (oversample, "rescore", "faiss")
    asked = np.linspace(0, ITEMS - 1, 120).astype(int)
    codes = server.post("/collections/auto/encode", {"vectors": VECTORS.tolist()})["codes"]
    decoded = np.array(server.post("/collections/auto/decode", {"codes": codes})["vectors"], np.float32)
    others = np.setdiff1d(np.arange(ITEMS), asked)
    truth = exact_neighbours(VECTORS[others], VECTORS[asked], 10, Metric.L2).rows
    near = exact_neighbours(decoded[others], VECTORS[asked], 10 * oversample, Metric.L2).rows
    assert told["lost"]["codec"] == pytest.approx(1 - recall(near, truth).mean(), abs=0.005)
    whole = check_sums(told)
    assert whole["default"]["recall@10"] == told["recall@10"]["value"]
    assert whole["oversample"]["gives_back"] > 0
    assert whole["stage"]["recall@10"] == pytest.approx(recall(near[:, :10], truth).mean(), abs=0.03)
    assert told["sentence"].startswith("The ")
    lost = told["lost"]
    sampled = {"found": told["recall@10"]["value"], "codec": lost["codec"], "shortlist": lost["shortlist"]}
    assert samples(server) == {("faiss", of): share for of, share in sampled.items()}

    filtered = server.get('/collections/auto/recall?queries=40&index=buckets&seconds=30&filter={"third": 1}')
    assert (filtered["queries"], filtered["items"], filtered["items_chosen"]) == (40, 560, 160)
    check_sums(filtered)
    assert {index for index, _ in samples(server)} == {"faiss"}, "of a filter nothing is told"
    assert filtered["knobs"][0]["index"] == "buckets"
    options = ("--collection", "auto", "--queries", "40", "--index", "buckets", "--filter", '{"third": 1}')
    printed = codewell(server, "recall", *options, "--seconds", "30")
    assert printed.returncode == 0, printed.stderr
    assert f"recall@10 is {filtered['recall@10']['value']:.3f}, 95% interval" in printed.stdout
    assert f"the shortlist loses {filtered['lost']['shortlist']:.3f}" in printed.stdout
    path = "/collections/auto/recall"
    problem(server.client.get(path, params={"filter": '{"third": '}), 422, "filter", "no JSON")
    problem(server.client.get(path, params={"filter": '{"third": {"$no": 1}}'}), 422, "filter.third.$no")
    problem(server.client.get(path, params={"filter": '{"third": 7}'}), 409, "filter", "0 items are too few")
    problem(server.client.get(path, params={"index": "exact"}), 422, "index")
    server.post("/collections", {"name": "bare", "dimension": DIM}, 201)
    assert problem(server.client.get("/collections/bare/recall"), 409, None)["title"] == "Not trained"


def check_sums(told: dict[str, Any]) -> dict[str, Any]:
    """What is lost and what is kept make 1; the last knob of each name."""
    assert sum(told["lost"].values()) + told["recall@10"]["value"] == pytest.approx(1, abs=0.0003)
    first, *others = told["knobs"]
    for one in others:
        assert one["gives_back"] == pytest.approx(one["recall@10"] - first["recall@10"], abs=1e-6)
        assert one["costs_ms"] == pytest.approx(one["ms"] - first["ms"], abs=1e-6)
    return {one["knob"]: one for one in told["knobs"]}
