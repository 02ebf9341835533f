"""Codebooks by k-means in ever more components."""

import torch

from models.kmeans import codebook
from tests.conftest import clustered


def error(vectors: torch.Tensor, centroids: torch.Tensor) -> float:
    return float(torch.cdist(vectors, centroids).square().amin(dim=1).mean())


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_clusters_far_apart_are_found() -> None:
    centres = 100 * torch.eye(20)
    vectors = centres.repeat(50, 1) + torch.randn(1000, 20, generator=drawn())
    # Of 60 centroids for 20 clusters, at least one lands in nearly each of them: what is left is the noise.
    assert error(vectors, codebook(vectors, 60, 10, drawn())) < 25


def test_growing_components_beat_as_many_iterations_in_all_of_them() -> None:
    vectors = torch.from_numpy(clustered(4000, 64, clusters=300))
    centroids = vectors[torch.randint(4000, (256,), generator=drawn())]
    for _ in range(25):
        nearest = torch.cdist(vectors, centroids).argmin(dim=1)
        counts = torch.bincount(nearest, minlength=256)[:, None]
        moved = torch.zeros_like(centroids).index_add_(0, nearest, vectors) / counts.clamp_min(1)
        centroids = torch.where(counts > 0, moved, centroids)
    assert error(vectors, codebook(vectors, 256, 5, drawn())) < error(vectors, centroids)


def test_fewer_vectors_than_centroids_are_all_kept() -> None:
    vectors = torch.from_numpy(clustered(40, 8))
    centroids = codebook(vectors, 256, 5, drawn())
    assert centroids.shape == (256, 8)
    assert error(vectors, centroids) < 1e-4


def test_equal_vectors_and_constant_components() -> None:
    same = torch.ones(300, 8)
    assert error(same, codebook(same, 256, 3, drawn())) < 1e-9
    flat = torch.cat((torch.from_numpy(clustered(300, 4)), torch.full((300, 4), 7.0)), dim=1)
    assert error(flat, codebook(flat, 256, 3, drawn())) < 0.3 * float(flat.var(dim=0).sum())
