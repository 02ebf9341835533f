"""The noise of x + c is what its name and level say."""

import pytest
import torch

from models import BadConfig, Corruption, CorruptionKind

X = torch.linspace(-1, 1, 20_000).reshape(200, 100)


def corrupted(kind: CorruptionKind, level: float, seed: int = 0) -> torch.Tensor:
    return Corruption(kind, level)(X, torch.Generator().manual_seed(seed))


def test_none_changes_nothing() -> None:
    assert torch.equal(corrupted(CorruptionKind.NONE, 0.5), X)


def test_gaussian_has_mean_0_and_the_level_as_deviation() -> None:
    noise = corrupted(CorruptionKind.GAUSSIAN, 0.3) - X
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 0.3) < 0.01


def test_masking_sets_its_share_to_the_mean_and_leaves_the_rest() -> None:
    y = corrupted(CorruptionKind.MASKING, 0.25)
    changed = y != X
    assert abs(float(changed.float().mean()) - 0.25) < 0.02
    assert (y[changed] == 0).all()


def test_salt_and_pepper_sets_its_share_to_the_extremes_evenly() -> None:
    y = corrupted(CorruptionKind.SALT_AND_PEPPER, 0.2)
    changed = y != X
    assert abs(float(changed.float().mean()) - 0.2) < 0.02
    assert set(y[changed].tolist()) == {-2.0, 2.0}
    assert abs(float((y[changed] > 0).float().mean()) - 0.5) < 0.05


@pytest.mark.parametrize("kind", list(CorruptionKind))
def test_the_same_generator_gives_the_same_noise_and_the_input_stays(kind: CorruptionKind) -> None:
    before = X.clone()
    assert torch.equal(corrupted(kind, 0.3, seed=5), corrupted(kind, 0.3, seed=5))
    assert torch.equal(before, X)
    if kind is not CorruptionKind.NONE:
        assert not torch.equal(corrupted(kind, 0.3, seed=5), corrupted(kind, 0.3, seed=6))


@pytest.mark.parametrize(("kind", "level"), [("gaussian", -0.1), ("masking", 1.5), ("salt-and-pepper", 2.0)])
def test_a_level_out_of_range_is_named(kind: str, level: float) -> None:
    with pytest.raises(BadConfig, match=r"corruption\.level"):
        Corruption(CorruptionKind(kind), level)
