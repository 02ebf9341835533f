"""The benchmark of hash buckets: each contender answers as its setting says, and RAM is what was allocated."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import buckets
from benchmarks.buckets import allocated, by_bits, coded, hyperplanes, measured, ours
from models import Metric, exact_neighbours, prepared
from tests.conftest import clustered

BASE, QUERIES = (prepared(clustered(n, 32, seed), Metric.COSINE) for n, seed in ((3_000, 0), (20, 1)))


def test_contenders_find_more_the_further_they_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "PROBES", (8, 256))
    codec, codes = coded(BASE, BASE, Metric.COSINE, 0.02, tmp_path)
    assert np.array_equal(coded(BASE, BASE, Metric.COSINE, 1, tmp_path)[1], codes), "what is kept is not made again"
    truth = exact_neighbours(BASE, QUERIES, 10, Metric.COSINE).rows
    rows = list(measured([*ours(codec, codes), *by_bits(codec, codes), *hyperplanes(BASE)], QUERIES, truth))
    told = {(row["contender"], row["setting"]): row for row in rows}
    few, many = (told["Codewell, buckets", setting] for setting in ("probes 8", "probes 256"))
    assert few["recall"] < many["recall"] <= told["Codewell, scan", "all codes"]["recall"]
    assert few["candidates"] < many["candidates"] <= 3_000
    assert told["Codewell, buckets", "a tenth of the codes"]["candidates"] == 300
    for contender in {row["contender"] for row in rows}:
        own = [row for row in rows if row["contender"] == contender and row["setting"] != "a tenth of the codes"]
        assert [row["candidates"] for row in own] == sorted(row["candidates"] for row in own)
    assert told["FAISS LSH", "all codes"]["recall"] > 0.5
    assert all(row["bytes a code"] >= buckets.BITS // 8 for row in rows)


def test_the_heap_grows_by_what_is_taken() -> None:
    before = allocated()
    taken = np.ones(10_000_000, np.uint8)
    assert 10_000_000 <= allocated() - before < 10_100_000
    del taken
    assert allocated() - before < 100_000
