"""Where a residual autoencoder is trained and encodes: on CUDA, tried where there is one, as on the processor."""

import numpy as np
import pytest
import torch

from models import BadConfig, Metric, ResidualConfig, TrainingConfig, Vectors, exact_neighbours, fit, recall
from models.additive import Tables, searched
from models.beam import product_type
from models.blocks import mapped
from models.device import device_named
from models.sums import group_sums

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


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_codes_are_the_same_everywhere(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    words, targets = (torch.randn(shape, generator=generator) for shape in ((4, 256, 60), (300, 60)))
    tables = Tables.of(words)
    assert torch.equal(searched(targets.to(device), tables.to(device), 6).cpu(), searched(targets, tables, 6))


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
