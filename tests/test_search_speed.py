"""The benchmark of searches a second: what it asks is what it says, and vectors beyond the real ones are noise."""

from pathlib import Path

import numpy as np

from benchmarks.search_speed import by_faiss, grown, ours, rate
from models import Metric, ResidualConfig, exact_neighbours, prepared, recall
from tests.conftest import clustered, started_codec

BASE, QUERIES = (prepared(clustered(n, 16, seed), Metric.COSINE) for n, seed in ((1200, 0), (30, 1)))


def test_each_setting_answers_as_it_is_called(tmp_path: Path) -> None:
    codec = started_codec(ResidualConfig(8, beam=8), Metric.COSINE, 16)
    truth = exact_neighbours(BASE, QUERIES, 10, Metric.COSINE).rows
    compared = [
        *ours(codec, codec.encode(BASE), BASE),
        *by_faiss("HNSW32", ["efSearch=16", "efSearch=256"], BASE, Metric.COSINE, tmp_path),
    ]
    found = {}
    for one in compared:
        ask = one.turn_on()
        rows = np.concatenate([ask(query[None]) for query in QUERIES])
        found[one.contender, one.name] = recall(rows, truth).mean()
    assert found["Codewell, rescored", "scan 1, oversample 10"] > 0.99
    assert found["Codewell, codes alone", "scan 1"] < found["Codewell, rescored", "scan 1, oversample 2"]
    assert found["FAISS HNSW32", "efSearch=256"] == 1
    assert compared[-1].bytes_a_vector > 4 * 16
    assert rate(compared[-1].turn_on(), QUERIES, 2) > 0


def test_more_vectors_than_there_are_lie_a_tenth_beside_real_ones() -> None:
    more = grown(BASE, 3000)
    assert np.array_equal(more[:1200], BASE)
    assert len(more) == 3000
    beside = np.linalg.norm(more[1200:2400] - BASE, axis=1)
    assert 0.09 < beside.mean() < 0.11
    assert np.array_equal(grown(BASE, 500), BASE[:500])
