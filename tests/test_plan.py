"""What a plan tries, chooses and says. Nothing is trained."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models import Estimate, Metric
from service.codec_spec import codec_spec
from service.compare.comparison import Candidate, Failed, candidates
from service.compare.vectors import Sample
from service.planning.contenders import grid, ladder, rivals, scout
from service.planning.plan import Plan
from service.planning.point import Found, Point, Trial
from service.planning.wish import PlanSpec
from service.search import Stage
from service.tuning import Setting
from tests.conftest import clustered

ALL = ("dense", "binary", "residual", "faiss")


def plan(*points: Point, **wish: Any) -> Plan:
    asked = PlanSpec.model_validate(wish)
    sample = Sample.of(clustered(200, 4), None)
    trial = Trial.in_ram(sample, Metric.L2, 1_000_000, asked.recalls, Stage.RESCORE, 100, 0)
    return Plan(asked, trial, 1.0, list(points))


def point(name: str, total: float, low: float, oversample: int = 10, factory: str = "", shared: float = 0.0) -> Point:
    codec = {"kind": "faiss", "factory": factory} if factory else {"kind": "residual", "bytes": 8}
    kept = Estimate(low + 0.01, low, low + 0.02)
    return Point(
        Candidate(name, codec),
        8,
        total,
        shared,
        kept,
        kept,
        0.5,
        Setting(oversample, {}),
        {10: kept},
        1.0,
        5.0,
        9.0,
        100.0,
    )


def test_few_codes_are_tried_and_none_is_too_long() -> None:
    assert ladder(384, None) == [4, 8, 16, 32, 64, 128]
    assert ladder(384, 12) == [4, 8, 12]
    assert ladder(10, 64) == [4, 8, 10]
    assert (scout(384, 16).codec["factory"], scout(10, 4).codec["factory"]) == ("PQ16x8", "PCA8,PQ4x8")
    assert [grid(20, size).codec["factory"] for size in (4, 16)] == ["PCAR8,SQ4", "PCAR20,SQ4"]
    names = [one.name for one in rivals(384, 16, 8, ALL)]
    assert names == [
        "FAISS PCAR16,SQ8",
        "FAISS PCAR64,RaBitQ",
        "Codewell binary 16",
        "Codewell dense 16",
        "FAISS OPQ8_32,PQ8x8",
        "FAISS PCA256,RQ8x8",
        "Codewell residual 8",
        "FAISS OPQ16_64,PQ16x8",
        "FAISS PCA256,RQ16x8",
        "Codewell residual 16",
    ]
    assert [one.is_offered for one in rivals(384, 16, 8, ALL)].count(False) == 1
    assert {one.codec["kind"] for one in rivals(384, 16, None, ("binary",))} == {"binary"}


@pytest.mark.parametrize("size", ladder(384, 256))
def test_a_collection_can_have_whatever_is_offered_at_every_size(size: int) -> None:
    for one in rivals(384, size, size, ALL) + candidates(384, size):
        if one.is_offered:
            codec_spec(one.codec).config(384, Metric.L2)


@pytest.mark.parametrize(
    ("points", "taken", "words"),
    [
        ([point("a", 12, 0.96), point("F", 11, 0.96, factory="PQ8x8")], "F", "FAISS wins: the other side's best is a,"),
        ([point("a", 11, 0.96), point("F", 12, 0.99, factory="PQ8x8")], "a", "Codewell wins: the other side's best is"),
        ([point("a", 11, 0.96, 3), point("F", 11, 0.96, 4, "PQ8x8")], "a", "Codewell wins"),
        ([point("a", 11, 0.96), point("F", 11, 0.97, factory="PQ8x8")], "F", "are level: a and F cost the same"),
        ([point("a", 11, 0.96), point("F", 9, 0.94, factory="PQ8x8")], "a", "none of FAISS's codes that were tried"),
        ([point("a", 9, 0.94), point("F", 11, 0.96, factory="PQ8x8")], "F", "none of Codewell's codes that were tried"),
        ([point("a", 11, 0.96)], "a", "None of FAISS's codes was measured."),
        ([point("F", 11, 0.96, factory="PQ8x8")], "F", "None of Codewell's codes was measured."),
        (
            [point("a", 12, 0.96), point("F", 13, 0.96, factory="PQ8x8"), point("R", 9, 0.96, factory="PCAR8,RaBitQ")],
            "a",
            "R would do better, but a collection cannot take it",
        ),
        ([point("a", 12, 0.93), point("F", 9, 0.94, factory="PQ8x8")], None, "The nearest is F, 9.0 bytes"),
    ],
)
def test_the_cheapest_is_taken_and_who_wins_is_said(points: list[Point], taken: str | None, words: str) -> None:
    made = plan(*points)
    record = made.record()
    assert (made.taken and made.taken.candidate.name) == taken
    assert words in " ".join(record["sentences"])
    assert record["take"] is None or record["take"]["codec"] == record["order"][0]
    cheapest = min(points, key=lambda one: (one.total_bytes, -one.rescored.value))
    assert made.frontier[0] is cheapest


def test_the_code_that_takes_over_as_items_share_its_tables_is_named() -> None:
    # Of a million: 16 bytes a vector and none shared; 12 and 6 MB, 10 and 20 MB; 15 bytes, which keep too little.
    small = point("F", 16, 0.96, factory="PQ8x8")
    next_one, last = point("a", 18, 0.96, shared=6e6), point("b", 30, 0.96, shared=20e6)
    poor = point("c", 17, 0.9, shared=2e6)
    said = plan(small, next_one, last, poor).sentences
    assert said[2] == (
        "Tables and codec weigh less the more items share them: from about 1,500,000 on, a takes fewer bytes in all; "
        "what it keeps of so many is not measured here."
    )
    for others in ([point("a", 18, 0.96)], [point("a", 18, 0.96, shared=2e6)], [point("a", 417, 0.96, shared=402e6)]):
        assert len(plan(small, *others).sentences) == 2, "never cheaper, or not before a hundred times as many"
    assert len(plan(small, next_one, budgets={"total_bytes": 40}).sentences) == 2


def test_what_could_meet_it_is_said_where_nothing_does() -> None:
    poor = point("a", 12, 0.93)
    said = plan(poor).sentences
    assert said[0] == "No code that was tried meets recall@10 of 0.95."
    assert said[2] == "What could meet it: an oversample above 100."
    bounded = plan(poor, contract={"recall@10": 0.95, "max_bytes": 8})
    bounded.failed.append(Failed(Candidate("b", {"kind": "dense"}), "the 1 minutes were over"))
    assert bounded.sentences[0] == "No code that was tried meets recall@10 of 0.95 within the costs."
    assert bounded.sentences[2] == (
        "What could meet it: higher costs; or an oversample above 100; or more than 1 minutes, for codes that were not "
        "measured."
    )
    alone = plan(poor)
    alone.trial = replace(alone.trial, stage=Stage.REFINE)
    assert alone.sentences[2] == "What could meet it: searches that read originals."
    dear = plan(poor, budgets={"total_bytes": 11})
    assert [dear.sentences[0], dear.sentences[2]] == [
        "No code that was tried meets the budgets.",
        "What could meet it: higher costs.",
    ]


def test_budgets_choose_what_keeps_most_and_name_what_is_too_dear() -> None:
    points = point("a", 20, 0.9), point("F", 10, 0.8, factory="PQ8x8")
    assert plan(*points, budgets={"total_bytes": 20}).taken is points[0]
    small = plan(*points, budgets={"ram_mb": 15})
    assert small.taken is points[1]
    assert small.missing(points[0]) == ["20.0 MB of RAM of 15"]
    assert plan(*points, budgets={"latency_ms": 4}).missing(points[1]) == ["5.0 ms a search of 4"]
    assert plan(*points, contract={"max_bytes": 7}).taken is None


def test_recall_is_that_of_the_shortlist_or_of_its_best_codes() -> None:
    found = Found(
        shortlist=np.array([[5, 1, 3, 2, 4, 0]]),
        scores=np.array([[1, 2, 9, 8, 3, 7]], np.float32),
        truth=np.array([[3, 2, 1]]),
    )
    assert found.recall(2, 1, Stage.RESCORE).tolist() == [0.0]  # 5 and 1
    assert found.recall(2, 2, Stage.RESCORE).tolist() == [1.0]
    assert found.recall(3, 1, Stage.REFINE).tolist() == [2 / 3]  # 5, 1 and 3
    assert found.recall(1, 3, Stage.REFINE).tolist() == [1.0]
