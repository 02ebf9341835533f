"""k-means for codebooks. Knows no codes and no beam."""

import torch
from torch import Tensor

from models.axes import principal_axes
from models.beam import product_type
from models.blocks import mapped
from models.sums import group_sums

FIRST_COMPONENTS = 4
BLOCK = 4_096
"""Vectors assigned at once."""


def codebook(vectors: Tensor, k: int, iterations: int, generator: torch.Generator) -> Tensor:
    """(n, D) float32 to (k, D) centroids, by k-means in ever more principal components: 4, 8, 16, ... D.

    Started in all components at once, k-means of hundreds of components ends in a poor local minimum: the error of 32
    residual steps is then twice as large (as FAISS's ProgressiveDimClustering has it). Where there are fewer than k
    different vectors, some centroids are equal.
    """
    _, dim = vectors.shape
    centred = vectors - vectors.mean(dim=0)
    _, axes = principal_axes(centred.T @ centred)
    del centred  # as large as the vectors
    rotated = vectors @ axes.flip(1)
    components = FIRST_COMPONENTS
    centroids = rotated[torch.randint(len(vectors), (k,), generator=generator)][:, : min(components, dim)]
    while True:
        components = min(components, dim)
        part = rotated[:, :components].contiguous()
        centroids = torch.nn.functional.pad(centroids, (0, components - centroids.shape[1]))
        for _ in range(iterations):
            centroids = _moved(part, centroids, generator)
        if components == dim:
            grown: Tensor = centroids @ axes.flip(1).T
            return grown
        components *= 2


def _moved(vectors: Tensor, centroids: Tensor, generator: torch.Generator) -> Tensor:
    """One iteration of Lloyd's; a centroid that nothing is nearest to starts again at a random vector."""
    k, _ = centroids.shape
    nearest = _nearest(vectors, centroids)
    counts = torch.bincount(nearest, minlength=k)[:, None]
    sums = group_sums(vectors, nearest, k)
    drawn = vectors[torch.randint(len(vectors), (k,), generator=generator)]
    return torch.where(counts > 0, sums / counts.clamp_min(1), drawn)


def _nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """(n, d) and (k, d) to (n,): rounding may mistake centroids that are about equally near."""
    kind = product_type(vectors.device)
    halves, columns = centroids.square().sum(dim=1) / 2, centroids.to(kind).T
    return torch.cat(
        mapped(
            lambda block: ((vectors[block].to(kind) @ columns).float() - halves).argmax(dim=1),
            len(vectors),
            BLOCK,
            torch.get_num_threads(),
            device=vectors.device,
        )
    )
