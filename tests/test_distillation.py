"""The decoder trained for neighbours."""

import numpy as np
import pytest
import torch

from models import Metric, ResidualCodec, ResidualConfig, exact_neighbours, prepared, recall
from models.distillation import distilled, neighbour_graph
from tests.conftest import clustered, started_codec


@pytest.mark.parametrize("metric", list(Metric))
def test_the_graph_holds_the_true_neighbours_but_not_the_vector_itself(metric: Metric) -> None:
    vectors = prepared(clustered(200, 8), metric)
    graph = neighbour_graph(torch.from_numpy(vectors), metric, torch.Generator().manual_seed(0), lambda: None)
    truth = exact_neighbours(vectors, vectors[graph.queries.numpy()], 12, metric).rows
    for query, found, wanted in zip(graph.queries.tolist(), graph.neighbours[:, :10].tolist(), truth, strict=True):
        assert query not in found
        assert len(set(found) & {row for row in wanted.tolist() if row != query}) >= 9  # rounding may swap the last


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
def test_what_a_map_has_spoilt_another_one_mends(metric: Metric) -> None:
    vectors = prepared(clustered(4000, 8), metric)
    codec = started_codec(ResidualConfig(4), metric)
    assert isinstance(codec, ResidualCodec)
    model = codec._decoder
    spoilt = model.encode(torch.from_numpy(vectors)) * torch.linspace(0.7, 1.3, 8) + 0.1
    graph = neighbour_graph(torch.from_numpy(vectors), metric, torch.Generator().manual_seed(0), lambda: None)
    weight, bias = distilled(model, torch.from_numpy(vectors), spoilt, graph, metric, 0, lambda: None)

    def kept(z: torch.Tensor) -> float:
        found = exact_neighbours(model.decode(z).numpy(), vectors[:200], 10, metric).rows
        return float(recall(found, exact_neighbours(vectors, vectors[:200], 10, metric).rows).mean())

    assert kept(spoilt @ weight + bias) > kept(spoilt) + 0.02
    assert not np.allclose(weight, torch.eye(8), atol=0.01)
