"""What the theory of autoencoders promises, on vectors for which the answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models import Corruption, CorruptionKind, DenseAutoencoder, DenseConfig, LatentType, TrainingConfig, Vectors, train
from tests.conftest import clustered

PLAIN = Corruption(CorruptionKind.NONE, 0.0)


class Denoiser(DenseAutoencoder):
    """Keeps the epoch that denoises held-out vectors best, not the one that copies clean ones best."""

    def error(self, x: Tensor) -> Tensor:
        return self.loss(x, torch.Generator(device=x.device).manual_seed(0))


class OnTrainingSet(DenseAutoencoder):
    """Keeps the epoch that is best on the vectors trained on: their axes are what it is compared with."""

    def settle(self, sample: Tensor) -> None:
        super().settle(sample)
        self.seen = sample

    def error(self, x: Tensor) -> Tensor:
        return self.loss(self.seen, torch.Generator(device=x.device))


class RandomStart(OnTrainingSet):
    """Begins at random weights instead of the principal axes."""

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        super().start(sample, generator)
        for layer in (self.encoder, self.decoder):
            layer.weight.normal_(0, self.dim**-0.5, generator=generator)


def shape(latents: int, corruption: Corruption = PLAIN, **hidden: tuple[int, ...]) -> DenseConfig:
    return DenseConfig(latents, LatentType.FLOAT16, corruption=corruption, **({"decoder_hidden": ()} | hidden))


def output(model: DenseAutoencoder, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.decode(model.encode(x))


def principal(vectors: Vectors, m: int) -> Vectors:
    """(D, m) axes."""
    centred = vectors - vectors.mean(axis=0)
    return np.linalg.svd(centred, full_matrices=False)[2][:m].T


def projected(vectors: Vectors, noisy: Vectors, m: int) -> Vectors:
    """The noisy vectors on the m principal axes of the clean ones."""
    axes, mean = principal(vectors, m), vectors.mean(axis=0)
    return np.asarray((noisy - mean) @ axes @ axes.T + mean, np.float32)


def sheet(n: int, seed: int = 0) -> Vectors:
    """A curved 2-D sheet in 24 dimensions: what denoising can know and a linear projection cannot."""
    t = np.random.default_rng(seed).uniform(-1, 1, (n, 2))
    u, v = t[:, :1], t[:, 1:]
    features = np.hstack([u, v, u * u, v * v, u * v, np.sin(3 * u) * v, np.cos(2 * u + 2 * v)])
    return np.asarray(features @ np.random.default_rng(1).standard_normal((7, 24)), np.float32)


def ring(n: int, seed: int = 0) -> Vectors:
    """Points of the unit circle."""
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_a_nonlinear_autoencoder_goes_below_the_error_of_pca() -> None:
    vectors = sheet(4000)
    model = DenseAutoencoder(24, shape(2, hidden=(64,), decoder_hidden=(64,)))
    run = train(model, vectors, TrainingConfig(epochs=25, learning_rate=5e-3))
    test = sheet(500, seed=9)
    error = np.square(output(model, torch.from_numpy(test)).numpy() - test).sum()
    assert run.epochs[0].held_out_error > 0.2
    assert error < 0.3 * np.square(projected(vectors, test, 2) - test).sum()


def test_an_overcomplete_autoencoder_without_regularisation_learns_the_identity() -> None:
    """Nothing makes it choose, so noise passes through: why denoising, sparsity or a prior is needed."""
    vectors, test = sheet(2000), torch.from_numpy(sheet(500, seed=9))
    model = DenseAutoencoder(24, shape(48, hidden=(32,), decoder_hidden=(32,)))
    run = train(model, vectors, TrainingConfig(epochs=10))
    noise = 0.5 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    assert run.best.held_out_error < 1e-4
    passed = (output(model, test + noise) - test).square().sum() / noise.square().sum()
    assert passed == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "corruption",
    [
        Corruption(CorruptionKind.GAUSSIAN, 0.5),
        Corruption(CorruptionKind.MASKING, 0.3),
        Corruption(CorruptionKind.SALT_AND_PEPPER, 0.2),
    ],
    ids=lambda corruption: str(corruption.kind),
)
def test_denoising_brings_held_out_vectors_nearer_the_clean_ones(corruption: Corruption) -> None:
    """Vincent et al. 2010."""
    vectors, test = sheet(4000), torch.from_numpy(sheet(500, seed=9))
    model = Denoiser(24, shape(24, corruption, hidden=(96,), decoder_hidden=(96,)))
    train(model, vectors, TrainingConfig(epochs=25, learning_rate=4e-3))
    noisy = model.restored(corruption(model.standardized(test), torch.Generator().manual_seed(5)))
    before = float((noisy - test).square().sum())
    after = float((output(model, noisy) - test).square().sum())
    # The number of axes that suits PCA best, chosen with the answer in sight.
    linear = min(
        float(np.square(projected(vectors, noisy.numpy(), m) - test.numpy()).sum()) for m in (2, 3, 4, 5, 6, 12)
    )
    assert 10 * np.log10(before / after) > 8
    assert after < 0.7 * linear


def test_around_a_circle_what_is_added_points_to_the_circle() -> None:
    """Alain & Bengio 2014: r(x) - x follows the score, which leads back to where the data lies."""
    model = Denoiser(2, shape(2, Corruption(CorruptionKind.GAUSSIAN, 0.3), hidden=(64, 64), decoder_hidden=(64,)))
    train(model, ring(4000), TrainingConfig(epochs=15))
    near = ring(400, seed=3) * np.random.default_rng(4).choice([0.7, 0.8, 1.2, 1.3], (400, 1)).astype(np.float32)
    nearest = near / np.linalg.norm(near, axis=1, keepdims=True)
    step = output(model, torch.from_numpy(near)).numpy() - near
    towards = nearest - near
    cosine = (step * towards).sum(axis=1) / np.linalg.norm(step, axis=1) / np.linalg.norm(towards, axis=1)
    assert (cosine > 0.7).mean() > 0.97
    assert np.median(cosine) > 0.95
    # On the circle itself there is nothing to add.
    on = ring(400, seed=5)
    assert np.linalg.norm(output(model, torch.from_numpy(on)).numpy() - on, axis=1).mean() < 0.1


@pytest.mark.parametrize("hidden", [(), (32,)], ids=["linear", "nonlinear"])
def test_on_a_blob_what_is_added_is_sigma_squared_times_the_score(hidden: tuple[int, ...]) -> None:
    """For x ~ N(mu, C) and noise of variance s^2 the best output is x + s^2 grad log p_s(x), p_s = N(mu, C + s^2 I):
    r(x) - x = -s^2 (C + s^2 I)^-1 (x - mu), which for small s is s^2 grad log p.
    """
    rng, level = np.random.default_rng(0), 0.5
    covariance = np.array([[1.5, 0.6], [0.6, 0.5]])
    centre = np.array([2.0, -1.0])
    vectors = np.asarray(rng.multivariate_normal(centre, covariance, 8000), np.float32)
    model = Denoiser(2, shape(2, Corruption(CorruptionKind.GAUSSIAN, level), hidden=hidden))
    train(model, vectors, TrainingConfig(epochs=10, batch_size=128))
    variance = (level * float(model.scale)) ** 2
    x = np.asarray(rng.multivariate_normal(centre, covariance, 500), np.float32)
    score = -(x - centre) @ np.linalg.inv(covariance + variance * np.eye(2))
    added = output(model, torch.from_numpy(x)).numpy() - x
    error = np.linalg.norm(added - variance * score) / np.linalg.norm(variance * score)
    assert error < 0.1


def test_more_latents_never_hurt_a_linear_autoencoder() -> None:
    vectors = clustered(1000, 12)
    errors = [
        train(DenseAutoencoder(12, shape(m)), vectors, TrainingConfig(epochs=2)).best.held_out_error
        for m in (1, 2, 4, 8, 12)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4
