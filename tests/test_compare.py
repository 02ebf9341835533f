"""`codewell compare`: what is read, what is trained on and searched, its figures, its sentences and its page."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from models import Metric, TrainingConfig, fit, prepared, quantizer_training, recall
from service.cli import app
from service.codec_spec import codec_spec
from service.compare.comparison import Candidate, Comparison, Failed, Measured, Split
from service.compare.page import page
from service.compare.report import Report
from service.compare.vectors import Sample
from service.compare.verdict import Verdict
from tests.conftest import clustered

DIM = 16
VECTORS = clustered(700, DIM)
QUERIES = clustered(60, DIM, 5)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, NDArray[Any]], Path]:
    def write(name: str, vectors: NDArray[Any]) -> Path:
        np.save(tmp_path / name, vectors)
        return tmp_path / name

    return write


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False)


class Tags(HTMLParser):
    """The names of the elements, and everything that they say or point to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]


def test_figures_are_those_of_codecs_trained_alike(written: Callable[..., Path], tmp_path: Path) -> None:
    files = written("v.npy", VECTORS), "--queries", written("q.npy", QUERIES)
    ran = compare(*files, "--bytes", 2, "--metric", "l2", "--threads", 1, "--json", "--html", tmp_path / "page.html")
    assert ran.exit_code == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["counts"] == {"seen": 490, "trained": 210, "late": 210, "queries": 60}
    assert [code["name"] for code in said["codes"]] == [
        "Codewell residual",
        "Codewell dense",
        *(f"FAISS OPQ2_{width},PQ2x8" for width in (8, 12, 16)),
        "FAISS PQ2x8",
        "FAISS PCA16,RQ2x8",
        "FAISS PCAR4,SQ4",
        "FAISS PCAR2,SQ8",
    ]
    for code in said["codes"]:
        assert code["code_bytes"] == 2
        assert min(code[name] for name in ("train_seconds", "encode_seconds", "search_ms")) > 0
        if code["name"] in ("FAISS PQ2x8", "FAISS PCAR4,SQ4"):
            check(code)
    best = max(said["codes"], key=lambda code: code["recall"]["late"]["10"])
    assert said["take"] == best["codec"]
    assert best["recall"]["late"]["10"] > 0.45
    html = (tmp_path / "page.html").read_text()
    tags = Tags(html)
    assert tags.links == []
    assert {"svg", "table", "style"} < tags.names
    assert not {"script", "link", "img", "iframe"} & tags.names
    assert "url(" not in html
    assert "@import" not in html
    assert said["caveat"] is None
    assert all(verdict["sentence"] in html for verdict in said["verdicts"])
    assert all(f"<td>{code['name']}</td>" in html for code in said["codes"])
    assert html.count("<circle") == 9 * 3 * 2


def check(code: dict[str, Any]) -> None:
    """Trains the codec anew, and ranks by plain distances."""
    seen, late = VECTORS[:490], VECTORS[490:]
    codec = fit(codec_spec(code["codec"]).config(DIM, Metric.L2), seen, Metric.L2, TrainingConfig()).codec
    for split, vectors in (("late", late), ("trained", seen[np.linspace(0, 489, 210).astype(int)])):
        truth, found = (
            np.argsort(((QUERIES[:, None].astype(np.float64) - x) ** 2).sum(axis=2), axis=1, kind="stable")
            for x in (vectors, codec.decode(codec.encode(vectors)))
        )
        for k in (1, 10, 100):
            assert code["recall"][split][str(k)] == pytest.approx(recall(found[:, :k], truth[:, :k]).mean(), abs=0.005)
    assert code["total_bytes"] == pytest.approx(2 + len(codec.to_bytes()) / 700)
    assert code["total_bytes_at_a_million"] == pytest.approx(2 + len(codec.to_bytes()) / 1e6)


def test_a_code_that_is_not_trained_in_time_is_named(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer_training, "TELL_SECONDS", 0.01)
    # 200 rounds of k-means over 2,100 vectors of 128 numbers are 27 billion operations: more than 60 ms anywhere.
    ran = compare(written("v.npy", clustered(3_000, 128)), "--bytes", 1, "--minutes", 0.001, "--threads", 1)
    assert ran.exit_code == 0, ran.stderr
    assert "FAISS OPQ1_128,PQ1x8 is missing: FAISS had not trained OPQ1_128,PQ1x8 after 0.001 minutes" in ran.stdout
    assert re.search(r"Not measured, so none of it is known: .*FAISS OPQ1_128,PQ1x8.*\.\n", ran.stdout)
    assert "FAISS PCAR2,SQ4" in ran.stdout
    assert "On late items" in ran.stdout
    assert 'Most neighbours of late items are kept by "codec": {"kind": ' in ran.stdout
    assert "300 queries over the 810 later rows" in ran.stdout


def test_ctrl_c_shows_what_was_measured(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written("v.npy", clustered(2_000, 32))
    command = [sys.executable, "-m", "service.cli", "compare", str(path), "--bytes", "1", "--threads", "1", "--json"]
    process = subprocess.Popen(
        [*command, "--html", str(tmp_path / "page.html")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while json.loads(process.stderr.readline())["done"] <= 1:
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    names = [code["name"] for code in json.loads(out)["codes"]]
    assert names[0] == "Codewell residual"
    assert len(names) < 9
    assert f"stopped: {len(names)} of 9 codes were measured" in err
    assert "<td>Codewell residual</td>" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("vectors", "queries", "words"),
    [
        (VECTORS[:150], None, "VECTORS: 150 vectors are too few to compare codes on; 200 is the least"),
        (VECTORS.astype(int), None, "VECTORS: .* holds int64 .*; wanted are floats"),
        (VECTORS[0], None, r"VECTORS: .* of shape \(16,\)"),
        (np.full((300, 4), np.nan), None, "VECTORS: .*NaN"),
        (np.zeros((300, 0)), None, "VECTORS: "),
        (VECTORS, QUERIES[:, :9], "--queries: .* has vectors of 9 numbers; wanted are 16"),
        (VECTORS, QUERIES[:0], "--queries: .*there are no rows"),
    ],
)
def test_what_cannot_be_compared_is_said(
    written: Callable[..., Path], vectors: NDArray[Any], queries: NDArray[Any] | None, words: str
) -> None:
    asked = () if queries is None else ("--queries", written("q.npy", queries))
    ran = compare(written("v.npy", vectors), *asked, "--bytes", 4)
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert re.match(f"codewell: {words}", ran.stderr), ran.stderr


def test_rows_are_cut_in_their_order_and_asked_ones_are_not_searched() -> None:
    vectors = np.arange(1_000, dtype=np.float32)[:, None]
    seen, trained, late, queries = (part[:, 0].tolist() for part in Sample.of(vectors, None))
    assert len(queries) == 100
    assert seen + late == sorted(set(range(1_000)) - set(queries))
    assert (len(seen), len(late), len(trained)) == (630, 270, 270)
    assert set(trained) < set(seen)
    assert (trained[0], trained[-1]) == (seen[0], seen[-1])
    given = Sample.of(vectors, np.array([[5.0], [7.0]], np.float32))
    assert (len(given.seen), len(given.late), given.queries[:, 0].tolist()) == (700, 300, [5.0, 7.0])


def row(name: str, kind: str, share: float) -> Measured:
    hits = np.random.default_rng(len(name)).normal(share, 0.1, 400)
    hits += share - hits.mean()
    recalls = {split: {1: share, 10: share, 100: share} for split in Split}
    candidate = Candidate(name, {"kind": kind})
    return Measured(
        candidate, 8, 9.5, 8.1, recalls, dict.fromkeys(Split, 0.5), 1.0, 2.0, 3.0, dict.fromkeys(Split, hits)
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome", "words"),
    [
        (0.60, 0.70, "loses", "On late items Codewell loses: recall@10 0.600 by Codewell a, 0.700 by FAISS b"),
        (0.70, 0.60, "wins", "Codewell keeps more: recall@10 0.700 by Codewell a, 0.600 by FAISS b (difference +0.100"),
        (0.702, 0.70, "level", "Codewell and FAISS are level"),
    ],
)
def test_who_keeps_more_is_said_plainly(ours: float, theirs: float, outcome: str, words: str) -> None:
    rows = [row("Codewell a", "residual", ours), row("FAISS b", "faiss", theirs), row("FAISS c", "faiss", 0.5)]
    verdict = Verdict.of(rows, Split.LATE)
    assert verdict is not None
    assert (verdict.outcome, words in verdict.sentence) == (outcome, True)
    assert verdict.low < ours - theirs < verdict.high
    assert Verdict.of(rows[1:], Split.LATE) is None
    vectors = prepared(VECTORS, Metric.COSINE)
    comparison = Comparison(Sample.of(vectors, None), Metric.COSINE, 8, TrainingConfig(minutes=1), 1)
    failed = Failed(Candidate("FAISS <d>", {"kind": "faiss"}), "took > 1 minute")
    report = Report("<my>.npy", comparison, [*rows, failed])
    html = page(report)
    assert f'<p class="verdict {outcome}">On late items' in html
    assert "Codes of 8 bytes on &lt;my&gt;.npy" in html
    assert '<td>FAISS &lt;d&gt;</td><td class="reason" colspan="14">took &gt; 1 minute</td>' in html
    assert '<p class="verdict missing">Not measured, so none of it is known: Codewell residual, Codewell dense,' in html
    assert report.record()["failed"][0]["reason"] == "took > 1 minute"
    assert report.record()["take"] == {"kind": "faiss" if theirs > ours else "residual"}
    empty = page(Report("v.npy", comparison, [failed]))
    assert [outcome in empty.split("</style>")[1] for outcome in ("wins", "loses", "level")] == [False] * 3
