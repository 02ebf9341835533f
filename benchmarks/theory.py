"""What autoencoders do in theory, measured on real vectors.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb /tmp/fashion
    python -m benchmarks.theory --fashion /tmp/fashion/usr/share/datasets/fashion-mnist --wordnet emb.npy

Each set is cut into 12,000 training and 2,000 test vectors (`--train`). Errors are squared, on test vectors, in units
of the data's variance, through latents of float16. The table's lines:

    angle        largest principal angle between a linear autoencoder's decoder and PCA, from PCA and a random start;
                 at the number of axes (4 to 16) before the widest gap of the spectrum, for that is well defined
    nonlinear    error at m latents of PCA and of an autoencoder with hidden layers, plain and variational
    identity     error of an unregularised overcomplete autoencoder, and the share of added noise that passes through
    denoising    decibels by which |output - clean|^2 is below |input - clean|^2, for the autoencoder and for PCA
"""

import argparse
import gzip
import math
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from models import (
    Corruption,
    CorruptionKind,
    DenseAutoencoder,
    DenseConfig,
    LatentType,
    Metric,
    TrainingConfig,
    Vectors,
    prepared,
    train,
)
from models.autoencoder import Autoencoder
from models.configs import VariationalConfig
from models.variational import VariationalAutoencoder

Model = TypeVar("Model", bound=Autoencoder)
PLAIN = Corruption(CorruptionKind.NONE, 0.0)
NOISES = (
    Corruption(CorruptionKind.GAUSSIAN, 1.0),
    Corruption(CorruptionKind.MASKING, 0.5),
    Corruption(CorruptionKind.SALT_AND_PEPPER, 0.3),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--fashion", type=Path, help="folder with train-images-idx3-ubyte.gz")
    arguments.add_argument("--wordnet", type=Path, help="(n, D) .npy, compared by cosine")
    arguments.add_argument("--train", type=int, default=12_000)
    arguments.add_argument("--latents", type=int, default=32)
    arguments.add_argument("--epochs", type=int, default=12)
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    sets: dict[str, Vectors] = {}
    if given.fashion is not None:
        with gzip.open(given.fashion / "train-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
        sets["fashion-mnist"] = cut(pixels, given.train) / np.float32(255)
    if given.wordnet is not None:
        sets["wordnet"] = prepared(cut(np.load(given.wordnet, mmap_mode="r"), given.train), Metric.COSINE)
    for name, vectors in sets.items():
        print(f"{name}: {given.train} training and {len(vectors) - given.train} test vectors of {vectors.shape[1]}")
        learn, test = vectors[: given.train], torch.from_numpy(vectors[given.train :])
        for line in (angle, nonlinear, identity, denoising):
            line(learn, test, given.latents, given.epochs)


def cut(vectors: np.ndarray, n: int) -> Vectors:
    """The first n and 2,000 more of a fixed permutation."""
    rows = np.random.default_rng(0).permutation(len(vectors))[: n + 2_000]
    return np.asarray(vectors[np.sort(rows)], np.float32)[np.argsort(np.argsort(rows))]


class OnTrainingSet(DenseAutoencoder):
    """Keeps the epoch that is best on the vectors trained on: their axes are what it is compared with."""

    def settle(self, sample: Tensor) -> None:
        """Remembers the training vectors."""
        super().settle(sample)
        self.seen = sample

    def error(self, x: Tensor) -> Tensor:
        """The loss on them."""
        return self.loss(self.seen, torch.Generator(device=x.device))


class RandomStart(OnTrainingSet):
    """Begins at random weights instead of the principal axes."""

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Throws the axes away again."""
        super().start(sample, generator)
        for layer in (self.encoder, self.decoder):
            layer.weight.normal_(0, self.dim**-0.5, generator=generator)


class Denoiser(DenseAutoencoder):
    """Keeps the epoch that denoises held-out vectors best, not the one that copies clean ones best."""

    def error(self, x: Tensor) -> Tensor:
        """The loss, with the same noise each time."""
        return self.loss(x, torch.Generator(device=x.device).manual_seed(0))


def angle(learn: Vectors, test: Tensor, m: int, epochs: int) -> None:
    spectrum = np.linalg.svd(learn - learn.mean(axis=0), compute_uv=False) ** 2
    m = 4 + int(np.argmax(spectrum[3:15] / spectrum[4:16]))
    for architecture in (OnTrainingSet, RandomStart):
        model = architecture(test.shape[1], shape(m))
        config = TrainingConfig(epochs=5 * epochs, patience=5 * epochs, batch_size=128, learning_rate=3e-3)
        train(model, learn, config)
        basis = torch.linalg.qr(model.decoder.weight.detach())[0]
        cosine = float(torch.linalg.svdvals(basis.T @ pca(model.seen, m)).min())
        print(f"  angle, {architecture.__name__}, {m} latents, variances {spectrum[m - 1] / spectrum[m]:.2f} apart: "
              f"{math.degrees(math.acos(min(1.0, cosine))):.2f} degrees", flush=True)  # fmt: skip


def nonlinear(learn: Vectors, test: Tensor, m: int, epochs: int) -> None:
    for latents in (m // 4, m // 2, m):
        deep = trained(DenseAutoencoder(test.shape[1], shape(latents, PLAIN, (256,), (256,))), learn, epochs)
        config = VariationalConfig(latents, LatentType.FLOAT16, (256,), (256,))
        variational = trained(VariationalAutoencoder(test.shape[1], config), learn, epochs)
        bound = variational.elbo(test, torch.Generator().manual_seed(0))
        print(f"  nonlinear, {latents} latents: PCA {pca_error(learn, test, latents):.4f}, "
              f"autoencoder {error(deep, test):.4f}, variational {error(variational, test):.4f} by its mean, "
              f"{float(bound.reconstruction):.4f} by draws at {float(bound.kl):.1f} nats", flush=True)  # fmt: skip


def identity(learn: Vectors, test: Tensor, m: int, epochs: int) -> None:
    del m
    dim = test.shape[1]
    config = shape(dim + dim // 4, PLAIN, (256,), (256,))
    model = trained(DenseAutoencoder(dim, config), learn, max(1, epochs // 4))
    noise = float(model.scale) * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    passed = float((output(model, test + noise) - output(model, test)).square().sum() / noise.square().sum())
    print(f"  identity, {config.latents} latents: error {error(model, test):.2g}, {passed:.1%} of the noise passes")


def denoising(learn: Vectors, test: Tensor, m: int, epochs: int) -> None:
    dim = test.shape[1]
    for noise in NOISES:
        # A linear path as wide as the input, and networks beside it.
        model = trained(Denoiser(dim, shape(dim, noise, (512,), (512,))), learn, epochs)
        noisy = model.restored(noise(model.standardized(test), torch.Generator().manual_seed(0)))
        before = (noisy - test).square().sum()
        gains = {
            "autoencoder": (output(model, noisy) - test).square().sum(),
            # At the best of five numbers of axes, chosen on the test vectors in its favour.
            "PCA": min(
                (projected(learn, noisy, axes) - test).square().sum() for axes in (m // 4, m // 2, m, 2 * m, 4 * m)
            ),
        }
        decibels = ", ".join(f"{name} {10 * math.log10(before / after):.1f} dB" for name, after in gains.items())
        print(f"  denoising, {noise.kind} {noise.level:g}: {decibels}", flush=True)


def shape(
    latents: int,
    corruption: Corruption = PLAIN,
    hidden: tuple[int, ...] = (),
    decoder_hidden: tuple[int, ...] = (),
) -> DenseConfig:
    return DenseConfig(latents, LatentType.FLOAT16, hidden, decoder_hidden, corruption)


def trained(model: Model, vectors: Vectors, epochs: int) -> Model:
    train(model, vectors, TrainingConfig(epochs=epochs, patience=epochs, learning_rate=1e-3))
    return model.requires_grad_(False)


def output(model: DenseAutoencoder, x: Tensor) -> Tensor:
    return model.decode(model.encode(x))


def error(model: Autoencoder, test: Tensor) -> float:
    return float(model.error(test))


def pca(vectors: Tensor, m: int) -> Tensor:
    """(D, m), the leading principal axes."""
    centred = vectors - vectors.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    leading: Tensor = axes.flip(1)[:, :m]
    return leading


def projected(learn: Vectors, x: Tensor, m: int) -> Tensor:
    vectors = torch.from_numpy(learn)
    axes, mean = pca(vectors, m), vectors.mean(dim=0)
    return (x - mean) @ axes @ axes.T + mean


def pca_error(learn: Vectors, test: Tensor, m: int) -> float:
    vectors = torch.from_numpy(learn)
    variance = (vectors - vectors.mean(dim=0)).square().mean()
    return float((test - projected(learn, test, m)).square().mean() / variance)


if __name__ == "__main__":
    main()
