"""The decoder trained for neighbours."""

from typing import Any

import numpy as np
import pytest
import torch

from models import (
    Metric,
    ResidualAutoencoder,
    ResidualCodec,
    ResidualConfig,
    TrainingConfig,
    Vectors,
    exact_neighbours,
    fit,
    prepared,
    recall,
    residual_training,
)
from models.distillation import Effort, Graph, distilled, neighbour_graph
from tests.conftest import clustered, started_codec

EFFORT = Effort.on(torch.device("cpu"), None)


def test_minutes_make_a_processor_train_as_long_as_cuda() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert Effort.on(cpu, 14.9) == EFFORT < Effort.on(cpu, 15)
    assert Effort.on(cpu, 15).steps == Effort.on(cuda, None).steps == Effort.on(cuda, 1).steps


@pytest.mark.parametrize("minutes", [None, 1, 20])
def test_a_training_distils_as_long_as_its_minutes_say(minutes: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Effort] = []

    def seen(model: ResidualAutoencoder, *given: Any) -> torch.Tensor:
        taken.append(given[4])
        return distilled(model, *given)

    monkeypatch.setattr(residual_training, "distilled", seen)
    fit(ResidualConfig(1), clustered(2_000, 4), Metric.L2, TrainingConfig(minutes=minutes, device="cpu"))
    assert taken == [Effort.on(torch.device("cpu"), minutes)]


def drawn_graph(vectors: Vectors, metric: Metric) -> Graph:
    generator = torch.Generator().manual_seed(0)
    return neighbour_graph(torch.from_numpy(vectors), metric, generator, lambda: None, EFFORT.queries)


@pytest.mark.parametrize("metric", list(Metric))
def test_the_graph_holds_the_true_neighbours_but_not_the_vector_itself(metric: Metric) -> None:
    vectors = prepared(clustered(200, 8), metric)
    graph = drawn_graph(vectors, metric)
    truth = exact_neighbours(vectors, vectors[graph.queries.numpy()], 12, metric).rows
    for query, found, wanted in zip(graph.queries.tolist(), graph.neighbours[:, :10].tolist(), truth, strict=True):
        assert query not in found
        assert len(set(found) & {row for row in wanted.tolist() if row != query}) >= 9  # rounding may swap the last


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
def test_what_is_spoilt_it_mends_in_the_time_it_has(metric: Metric) -> None:
    vectors = prepared(clustered(4000, 8), metric)
    codec = started_codec(ResidualConfig(4), metric)
    assert isinstance(codec, ResidualCodec)
    model = ResidualAutoencoder(8, ResidualConfig(4))
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in codec.tensors.items()})
    codes = torch.from_numpy(codec.encode(vectors))
    model.codebooks.mul_(torch.linspace(0.7, 1.3, 8)).add_(0.03)
    graph = drawn_graph(vectors, metric)

    def kept(books: torch.Tensor) -> float:
        model.codebooks.copy_(books)
        found = exact_neighbours(model.decode(model.unpack(codes)).numpy(), vectors[:200], 10, metric).rows
        return float(recall(found, exact_neighbours(vectors, vectors[:200], 10, metric).rows).mean())

    spoilt, given = model.codebooks.clone(), (model, torch.from_numpy(vectors), codes, graph, metric, EFFORT)
    mended, hardly = (distilled(*given, seconds, 0, lambda: None) for seconds in (np.inf, 1e-9))
    assert torch.equal(hardly, spoilt)
    assert kept(mended) > kept(spoilt) + 0.02
