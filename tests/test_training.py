"""The one loop: what it reaches, that seeds and checkpoints repeat it, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import (
    BadConfig,
    Corruption,
    CorruptionKind,
    DenseAutoencoder,
    DenseConfig,
    Epoch,
    LatentType,
    LearnedCodec,
    Metric,
    TooFewVectors,
    TrainingConfig,
    TrainingStopped,
    Vectors,
    train,
)
from tests.conftest import clustered

SHAPE = DenseConfig(latents=4, latent_type=LatentType.FLOAT16, decoder_hidden=(32,))
PLAIN = DenseConfig(
    latents=4, latent_type=LatentType.FLOAT16, decoder_hidden=(), corruption=Corruption(CorruptionKind.NONE)
)


def curved(n: int = 3000) -> Vectors:
    """A 2-D sheet bent into 12 dimensions: what a linear code of 4 numbers cannot hold and a network can."""
    t = np.random.default_rng(0).uniform(-1, 1, (n, 2))
    features = np.hstack([np.sin(3 * t), np.cos(3 * t), t * t, t[:, :1] * t[:, 1:]])
    return (features @ np.random.default_rng(1).standard_normal((7, 12))).astype(np.float32)


def weights(model: DenseAutoencoder) -> bytes:
    return LearnedCodec(model, Metric.L2).to_bytes()


def test_training_beats_the_principal_axes_it_starts_from() -> None:
    run = train(DenseAutoencoder(12, SHAPE), curved(), TrainingConfig(epochs=15))
    assert run.epochs[0].number == 0
    assert run.best.held_out_error < 0.5 * run.epochs[0].held_out_error


def test_the_best_epoch_is_the_one_that_is_kept() -> None:
    model, vectors = DenseAutoencoder(12, SHAPE), curved()
    run = train(model, vectors, TrainingConfig(epochs=6))
    held_out = np.sort(np.random.default_rng(0).permutation(len(vectors))[:150])
    with torch.inference_mode():
        error = float(model.error(torch.from_numpy(vectors[held_out])))
    assert error == pytest.approx(run.best.held_out_error, rel=1e-5)
    assert run.best.held_out_error == min(epoch.held_out_error for epoch in run.epochs)


def test_linear_training_stays_in_the_principal_subspace() -> None:
    vectors = clustered(2000, 12)
    model = DenseAutoencoder(12, PLAIN)
    train(model, vectors, TrainingConfig(epochs=5, learning_rate=1e-3))
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:4].T
    learned = np.linalg.qr(model.decoder.weight.detach().numpy())[0]
    cosines = np.linalg.svd(axes.T @ learned, compute_uv=False)
    assert np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))) < 5


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    results = []
    for seed in (3, 3, 4):
        model = DenseAutoencoder(12, SHAPE)
        train(model, curved(500), TrainingConfig(epochs=2, seed=seed))
        results.append(weights(model))
    assert results[0] == results[1] != results[2]


def test_a_training_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    config, vectors = TrainingConfig(epochs=6), curved(600)
    whole = DenseAutoencoder(12, SHAPE)
    run = train(whole, vectors, config)

    def stop_after_two(_: float, epoch: Epoch) -> None:
        if epoch.number == 2:
            raise TrainingStopped

    with pytest.raises(TrainingStopped):
        train(DenseAutoencoder(12, SHAPE), vectors, config, progress=stop_after_two, checkpoint=tmp_path)
    resumed = DenseAutoencoder(12, SHAPE)
    seen: list[int] = []
    rest = train(resumed, vectors, config, progress=lambda _, epoch: seen.append(epoch.number), checkpoint=tmp_path)
    assert seen == [3, 4, 5, 6]
    assert [epoch.held_out_error for epoch in rest.epochs] == [epoch.held_out_error for epoch in run.epochs]
    assert weights(resumed) == weights(whole)


def test_a_memory_map_is_trained_on_and_not_changed(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", curved(500))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    first, second = DenseAutoencoder(12, SHAPE), DenseAutoencoder(12, SHAPE)
    train(first, mapped, TrainingConfig(epochs=2))
    train(second, curved(500), TrainingConfig(epochs=2))
    assert weights(first) == weights(second)
    assert np.array_equal(mapped, curved(500))


def test_early_stopping_ends_when_nothing_improves() -> None:
    noise = np.random.default_rng(0).standard_normal((400, 12)).astype(np.float32)
    run = train(DenseAutoencoder(12, SHAPE), noise, TrainingConfig(epochs=500, patience=3))
    assert run.epochs[-1].number == run.best.number + 3


def test_minutes_are_honoured_and_the_rate_still_falls() -> None:
    run = train(DenseAutoencoder(12, SHAPE), curved(), TrainingConfig(epochs=100_000, patience=100_000, minutes=0.02))
    assert 1.0 < run.seconds < 6.0
    assert run.epochs[-1].number < 100_000


@pytest.mark.parametrize(
    "vectors",
    [np.ones((50, 12), np.float32), np.repeat(clustered(1, 12), 60, axis=0), clustered(20, 12)],
    ids=["constant", "duplicates", "few"],
)
def test_degenerate_vectors_train_to_something_finite(vectors: Vectors) -> None:
    model = DenseAutoencoder(12, SHAPE)
    run = train(model, vectors, TrainingConfig(epochs=3))
    assert np.isfinite(run.best.held_out_error)
    restored = LearnedCodec(model, Metric.L2)
    assert np.isfinite(restored.decode(restored.encode(vectors))).all()


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(TooFewVectors, match="15 vectors are too few"):
        train(DenseAutoencoder(12, SHAPE), clustered(15, 12), TrainingConfig())


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("batch_size", 0), ("held_out", 1.0), ("minutes", 0.0), ("learning_rate", 0.0)]
)
def test_a_bad_setting_is_named(field: str, value: float) -> None:
    with pytest.raises(BadConfig, match=field):
        TrainingConfig(**{field: value})  # type: ignore[arg-type]
