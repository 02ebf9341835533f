"""Hamming ranking at equal bits: random hyperplanes, iterative quantisation, and the binary autoencoder.

    python -m benchmarks.binary_hashing FOLDER [--bits 64 128 256 512] [--rows 30000] [--minutes 1]

FOLDER holds emb.npy and qemb.npy; the truth is exact cosine. Symmetric compares bits with bits, ties at random;
asymmetric weighs the stored bits by the query's activations. recall@10 among the first 10 / the first 100.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from models import LearnedCodec, Metric, TrainingConfig, Vectors, exact_neighbours, normalized, recall, top, train
from models.binary import BinaryAutoencoder
from models.binary_codec import BinaryCodec
from models.configs import BinaryConfig

Activations = Callable[[Vectors], Vectors]


def hyperplanes(dim: int, bits: int) -> Activations:
    """Random hyperplanes through the origin (Charikar 2002)."""
    normals = np.random.default_rng(0).standard_normal((dim, bits)).astype(np.float32)
    return lambda x: x @ normals


def rotated_axes(base: Vectors, bits: int, rounds: int = 50) -> Activations:
    """Iterative quantisation (Gong & Lazebnik 2011); with more bits than components a tight frame."""
    mean = base.mean(axis=0)
    centred = base - mean
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :bits]
    projected = centred @ axes
    draw = np.random.default_rng(0).standard_normal((bits, bits))
    rotation = np.linalg.qr(draw)[0][: axes.shape[1]].astype(np.float32)
    for _ in range(rounds):
        left, _, right = np.linalg.svd(projected.T @ signs(projected @ rotation), full_matrices=False)
        rotation = left @ right
    weight = axes @ rotation
    return lambda x: np.asarray((x - mean) @ weight, np.float32)


def trained(base: Vectors, bits: int, minutes: float) -> LearnedCodec:
    """The binary autoencoder with its default configuration."""
    model = BinaryAutoencoder(base.shape[1], BinaryConfig(bits))
    train(model, base, TrainingConfig(epochs=1000, patience=1000, minutes=minutes, device="cpu"))
    return BinaryCodec(model, Metric.COSINE)


def signs(activations: Vectors) -> Vectors:
    return np.where(activations > 0, 1, -1).astype(np.float32)


def recalls(points: Vectors, bits: Vectors, truth: np.ndarray) -> str:
    """Recall of the true ten in the first 10 and the first 100 by <point, bits>."""
    # Whole bits tie; less than the least difference of distances, 2, decides among them at random.
    ties = np.random.default_rng(0).random(len(bits), np.float32) * (np.abs(points) == 1).all()
    found = top(points @ bits.T + ties, np.arange(len(bits)), 100).rows
    return f"{recall(found[:, :10], truth).mean():.3f} / {recall(found, truth).mean():.3f}"


def statistics(bits: Vectors) -> str:
    """Mean |mean bit| and mean |correlation| of two bits."""
    correlation = np.abs(np.corrcoef(bits.T))
    m = len(correlation)
    return f"{np.abs(bits.mean(axis=0)).mean():.3f} | {(correlation.sum() - m) / (m * m - m):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--minutes", type=float, default=1.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base = normalized(np.load(arguments.folder / "emb.npy", mmap_mode="r")[: arguments.rows].astype(np.float32))
    queries = normalized(np.load(arguments.folder / "qemb.npy", mmap_mode="r")[:1000].astype(np.float32))
    truth = exact_neighbours(base, queries, 10, Metric.COSINE).rows
    print("| bits | method | symmetric | asymmetric | balance | correlation | seconds |")
    print("|---|---|---|---|---|---|---|")
    for bits in arguments.bits:
        methods: dict[str, Callable[[], Activations]] = {
            "LSH": lambda bits=bits: hyperplanes(base.shape[1], bits),  # type: ignore[misc]
            "ITQ": lambda bits=bits: rotated_axes(base, bits),  # type: ignore[misc]
            "ours": lambda bits=bits: trained(base, bits, arguments.minutes).latents,  # type: ignore[misc]
        }
        for name, method in methods.items():
            began = time.perf_counter()
            activations = method()
            seconds = time.perf_counter() - began
            stored, asked = signs(activations(base)), activations(queries)
            row = f"{recalls(signs(asked), stored, truth)} | {recalls(asked, stored, truth)} | {statistics(stored)}"
            print(f"| {bits} | {name} | {row} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
