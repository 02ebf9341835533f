"""Where a residual autoencoder is trained and encodes: on CUDA, tried where there is one, as on the processor."""

from typing import Any

import numpy as np
import pytest
import torch

from models import (
    BadConfig,
    BinaryConfig,
    CodecConfig,
    DenseConfig,
    LatentType,
    Metric,
    ResidualConfig,
    SparseConfig,
    TrainingConfig,
    VariationalConfig,
    Vectors,
    exact_neighbours,
    exhaustive,
    fit,
    paired_scores,
    prepared,
    recall,
    top,
)
from models.additive import Tables, searched
from models.beam import product_type
from models.blocks import mapped
from models.device import device_named
from models.metric import rounded_scores
from models.sums import group_sums
from service.index.exact import exact_search

BEST = device_named("auto")
DEVICES = list(dict.fromkeys((torch.device("cpu"), BEST)))


def grouped(n: int, dim: int = 24) -> Vectors:
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((30, dim))
    return (centres[rng.integers(0, 30, n)] + rng.standard_normal((n, dim)) / np.arange(1, dim + 1)).astype(np.float32)


def test_a_name_is_checked_and_auto_takes_what_is_there() -> None:
    assert device_named("cpu").type == "cpu"
    assert (device_named("auto").type == "cuda") == torch.cuda.is_available()
    with pytest.raises(BadConfig, match="'gpu' is none of auto, cpu, cuda"):
        fit(ResidualConfig(2), grouped(40), Metric.L2, TrainingConfig(device="gpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_where_there_is_none_is_refused() -> None:
    with pytest.raises(BadConfig, match="no CUDA device here; 'auto' takes the processor"):
        fit(ResidualConfig(2), grouped(40), Metric.L2, TrainingConfig(device="cuda"))


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_groups_are_summed(device: torch.device) -> None:
    values, groups = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([2, 0, 2])
    sums = group_sums(values.to(device), groups.to(device), 4)
    assert sums.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]


def test_cuda_takes_larger_blocks_one_after_the_other() -> None:
    blocks = mapped(lambda block: (block.start, block.stop), 100, 4, 3, device=torch.device("cuda"))
    assert blocks == [(0, 64), (64, 100)]
    assert product_type(torch.device("cuda")) is torch.float32


CONFIGS = (
    DenseConfig(16, LatentType.INT8),
    DenseConfig(16, LatentType.INT4),
    DenseConfig(16, LatentType.FLOAT16),
    VariationalConfig(16),
    SparseConfig(128, 6),
    BinaryConfig(64),
    ResidualConfig(4),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{type(config).__name__}-{config.code_bytes(24)}")
def test_every_kind_encodes_alike_on_every_device(config: CodecConfig) -> None:
    vectors = grouped(4_000)
    codec = fit(config, vectors[:1_000], Metric.COSINE, TrainingConfig(epochs=2)).codec
    here, queries = codec.encode(vectors), codec.points(vectors[:9])
    codec.device = "auto"
    there = codec.encode(vectors)
    assert (here != there).any(axis=1).mean() <= 0.001
    assert np.array_equal(codec.points(vectors[:9]), queries), "queries stay where they were"
    codec.device = "cpu"
    assert np.array_equal(codec.encode(vectors), here)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_codes_are_the_same_everywhere(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    words, targets = (torch.randn(shape, generator=generator) for shape in ((4, 256, 60), (300, 60)))
    tables = Tables.of(words)
    assert torch.equal(searched(targets.to(device), tables.to(device), 6).cpu(), searched(targets, tables, 6))


def with_copies(dim: int) -> tuple[Vectors, Vectors]:
    """3,000 and 40 vectors far from the origin, where squares cancel; one comes 41 times and is asked for too."""
    base, queries = grouped(3_000, dim) + 5, grouped(40, dim) + 5
    base[:2_000:50] = queries[3] = base[7]
    base[11] = 0
    base.setflags(write=False)
    return base, queries


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("dim", [1, 24, 200])
def test_true_neighbours_are_the_same_everywhere(metric: Metric, dim: int) -> None:
    base, queries = with_copies(dim)
    blocks = [(np.arange(a, b) * 3, base[a:b]) for a, b in ((0, 1_000), (1_000, 1_015), (1_015, 3_000))]
    here, there = (exact_search(blocks, queries, 10, metric, device) for device in ("cpu", "auto"))
    assert np.array_equal(there.rows, here.rows)
    assert np.array_equal(there.scores, here.scores)
    points = prepared(queries, metric)
    every = paired_scores(points, np.broadcast_to(base, (len(points), *base.shape)), metric)
    assert np.array_equal(here.rows, 3 * top(every, np.arange(len(base)), 10).rows)
    if metric is Metric.L2:
        assert here.rows[3].tolist() == [0, 21, *range(150, 1_350, 150)]


def test_copies_that_a_product_rounds_apart_are_found_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    base, queries = with_copies(24)
    base, real = np.concatenate((base, base[7:8].repeat(60, axis=0))), rounded_scores

    def apart(*given: Any) -> Any:
        scores, error = real(*given)
        return scores + error[:, None] * np.random.default_rng(0).uniform(-0.5, 0.5, scores.shape), error

    monkeypatch.setattr(exhaustive, "rounded_scores", apart)
    found = exact_search([(np.arange(len(base)), base)], queries[3:4], 10, Metric.L2)
    assert found.rows[0].tolist() == [0, 7, *range(50, 450, 50)]


@pytest.mark.parametrize("metric", list(Metric))
def test_what_another_device_is_not_sure_of_is_asked_of_the_processor(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other device is the processor under another name, which is sure of every second query only."""
    base, queries = with_copies(24)
    blocks = [(np.arange(a, b), base[a:b]) for a, b in ((0, 1_000), (1_000, 3_000))]
    here, real, asked = exact_search(blocks, queries, 10, metric), exhaustive._on, []

    def unsure(*given: Any) -> Any:
        near, clear = real(torch.device("cpu"), *given[1:])
        asked.append(clear.mean())
        return near, clear & (np.arange(len(clear)) % 2 == 0)

    monkeypatch.setattr("models.device.device_named", lambda _: torch.device("meta"))
    monkeypatch.setattr(exhaustive, "_on", unsure)
    there = exact_search(blocks, queries, 10, metric, "auto")
    assert len(asked) == 2
    assert min(asked) > 0.5
    assert np.array_equal(there.rows, here.rows)
    assert np.array_equal(there.scores, here.scores)
    nothing = exact_search(blocks, queries[:0], 10, metric, "auto")
    assert nothing.rows.shape == (0, 10)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_rows_that_a_product_cannot_tell_apart_are_known(device: torch.device, metric: Metric) -> None:
    base, queries = with_copies(24)
    queries = prepared(queries, metric)
    near, clear = exhaustive._on(device, queries, base, 10, metric, np.full(len(queries), -np.inf, np.float32))
    scores = paired_scores(queries, np.broadcast_to(base, (len(queries), *base.shape)), metric)
    for row in range(len(queries)):
        assert not clear[row] or set(np.argsort(-scores[row], kind="stable")[:10]) <= set(near[row])
    if metric is not Metric.IP:  # which has longer vectors before the one that is asked for
        assert not clear[3]
    assert clear.sum() > 20


def test_a_training_where_auto_leads_is_as_good_as_on_the_processor() -> None:
    vectors, late, metric = grouped(900)[:600], grouped(900)[600:], Metric.L2
    there, again, here = (
        fit(ResidualConfig(3), vectors, metric, TrainingConfig(held_out=0.2, device=name))
        for name in ("auto", "auto", "cpu")
    )
    assert there.codec.fingerprint == again.codec.fingerprint
    assert there.run.best.held_out_error == pytest.approx(here.run.best.held_out_error, abs=0.005)
    truth = exact_neighbours(late, late[:100], 10, metric).rows
    codes, kept = there.codec.encode(late), []
    for fitted in (there, here):
        decoded = fitted.codec.decode(fitted.codec.encode(late))
        kept.append(float(recall(exact_neighbours(decoded, late[:100], 10, metric).rows, truth).mean()))
    assert kept[0] == pytest.approx(kept[1], abs=0.02)
    there.codec.device = "auto"
    assert np.array_equal(there.codec.encode(late), codes)
