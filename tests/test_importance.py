"""What an error along each component costs."""

import pytest
import torch

from models import Metric
from models.distillation import neighbour_graph
from models.importance import LEAST, POWER, weights

AXES = torch.eye(3)


def drawn(n: int) -> torch.Tensor:
    """Groups far apart along the first component, within which the second varies and the third does not."""
    generator = torch.Generator().manual_seed(0)
    groups, places = torch.randint(0, 4, (n,), generator=generator), torch.randn(n, generator=generator)
    return torch.stack((1000.0 * groups, places, torch.zeros(n)), dim=1)


def weighed(vectors: torch.Tensor, metric: Metric) -> torch.Tensor:
    graph = neighbour_graph(vectors, metric, torch.Generator().manual_seed(0), lambda: None, 1_000)
    return weights(vectors, AXES, graph, metric)


def test_under_l2_what_neighbours_differ_by_counts_and_not_what_sets_others_apart() -> None:
    least = LEAST ** (POWER / 2)
    assert weighed(drawn(2000), Metric.L2).tolist() == pytest.approx([least, 3 ** (POWER / 2), least])


def test_an_outlier_counts_once() -> None:
    vectors = drawn(2000)
    vectors[7] = torch.tensor([0.0, 0.0, 1e6])
    torch.testing.assert_close(weighed(vectors, Metric.L2)[1], weighed(drawn(2000), Metric.L2)[1], rtol=0.01, atol=0)


def test_under_cosine_the_part_along_the_vector_does_not_count() -> None:
    angles = torch.linspace(-0.1, 0.1, 400)
    vectors = torch.stack((angles.cos(), angles.sin(), torch.zeros(400)), dim=1)
    found = weighed(vectors, Metric.COSINE)
    assert found[1] > 3 * found[0]
    # Under ip the whole query counts.
    found = weighed(vectors, Metric.IP)
    assert found[0] > 3 * found[1]


def test_equal_vectors_have_equal_weights() -> None:
    assert len(set(weighed(torch.ones(50, 3), Metric.L2).tolist())) == 1
