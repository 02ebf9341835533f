"""Exact neighbours, their order, and recall against them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import (
    Metric,
    estimated,
    exact_neighbours,
    interval,
    merged,
    normalized,
    paired_scores,
    recall,
    score_matrix,
    top,
)
from tests.conftest import clustered


def test_scores_are_those_of_the_textbook() -> None:
    q, x = np.array([[1.0, 2.0]], np.float32), np.array([[3.0, -1.0], [1.0, 2.0]], np.float32)
    assert score_matrix(q, x, Metric.IP).tolist() == [[1.0, 5.0]]
    assert score_matrix(q, x, Metric.L2).tolist() == [[-13.0, 0.0]]
    np.testing.assert_allclose(score_matrix(q, x, Metric.COSINE), [[1 / np.sqrt(50), 1.0]], rtol=1e-6)


@pytest.mark.parametrize("metric", list(Metric))
def test_paired_scores_agree_with_the_matrix(metric: Metric) -> None:
    q, x = clustered(5, 16, 1), clustered(7, 16, 2)
    pairs = paired_scores(q, np.broadcast_to(x, (5, 7, 16)), metric)
    np.testing.assert_allclose(pairs, score_matrix(q, x, metric), rtol=1e-4, atol=1e-3)


def test_a_zero_vector_scores_0_under_cosine() -> None:
    assert normalized(np.zeros((1, 3), np.float32)).tolist() == [[0.0, 0.0, 0.0]]
    assert paired_scores(np.ones((1, 3), np.float32), np.zeros((1, 1, 3), np.float32), Metric.COSINE).tolist() == [
        [0.0]
    ]


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 100))
def test_top_is_a_stable_sort(n: int, k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, (3, n)).astype(np.float32)  # five values: many ties
    rows = np.random.default_rng(seed + 1).permutation(n) + 100
    best = top(scores, rows, k)
    for query in range(3):
        expected = sorted(range(n), key=lambda column: (-scores[query, column], rows[column]))[:k]
        wanted = [int(rows[column]) for column in expected] + [-1] * (k - len(expected))
        assert best.rows[query].tolist() == wanted


def test_merged_parts_equal_one_search() -> None:
    base, queries = clustered(500, 16), clustered(20, 16, 1)
    whole = exact_neighbours(base, queries, 10, Metric.L2)
    first = exact_neighbours(base[:300], queries, 10, Metric.L2)
    second = exact_neighbours(base[300:], queries, 10, Metric.L2)
    both = merged((first, second._replace(rows=second.rows + 300)), 10)
    assert np.array_equal(both.rows, whole.rows)


def test_fewer_than_k_are_padded() -> None:
    best = exact_neighbours(clustered(3, 4), clustered(1, 4, 1), 5, Metric.COSINE)
    assert sorted(best.rows[0].tolist()) == [-1, -1, 0, 1, 2]
    assert np.isneginf(best.scores[0, 3:]).all()


def test_recall_counts_true_rows_only() -> None:
    found = np.array([[1, 2, 3], [7, 8, -1]])
    truth = np.array([[3, 9], [-1, 8]])
    assert recall(found, truth).tolist() == [0.5, 1.0]


def test_what_is_no_number_is_never_among_the_best() -> None:
    scores = np.array([[1.0, np.nan, 3.0, np.nan, 2.0] + [0.0] * 15], np.float32)
    assert top(scores, np.arange(20), 3).rows.tolist() == [[2, 4, 0]]


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(400), rel=0.1)
    assert interval(np.full(5, 0.25)) == (0.25, 0.25)
    held = sum(
        low <= 3 <= high for low, high in (interval(np.random.default_rng(n).normal(3, 2, 50)) for n in range(200))
    )
    assert 180 <= held <= 199  # 95% of 200, less what a bootstrap of 50 values misses


def test_the_interval_of_single_hits_is_wilsons() -> None:
    found = estimated(np.repeat([1.0, 0.0], [81, 182]))  # the example of Newcombe, 1998
    np.testing.assert_allclose(found, (81 / 263, 0.2553, 0.3662), atol=2e-4)
    np.testing.assert_allclose(estimated(np.ones(10)), (1.0, 0.7225, 1.0), atol=1e-4)
    np.testing.assert_allclose(estimated(np.zeros(10)), (0.0, 0.0, 0.2775), atol=1e-4)
    np.testing.assert_allclose(estimated(np.full(40, 0.9)), (0.9, 0.7695, 0.9604), atol=1e-4)


def test_hits_that_fall_together_are_no_more_evidence() -> None:
    together = estimated(np.repeat([1.0, 0.0], [80, 20]))  # all ten of a query, or none of them
    apart = estimated(np.random.default_rng(0).binomial(10, 0.8, 100) / 10)
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


@pytest.mark.parametrize(("mean", "apart"), [(0.8, 9.0), (0.95, 9.0), (0.99, 2.0)])
def test_the_lower_end_is_hardly_ever_too_high(mean: float, apart: float) -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        chances = rng.beta(mean * apart, (1 - mean) * apart, 100)  # a recall of its own for each query
        held += estimated(rng.binomial(10, chances) / 10).low <= mean
    assert held >= 370
