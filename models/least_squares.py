"""Codebooks that fit given codes best, up to 32 of them at once. Knows no search for codes."""

import torch
from torch import Tensor

from models.sums import group_sums

GROUP = 32
"""Codebooks solved together: the normal equations of 32 x 256 codewords take 268 MB."""
PRIOR, PRIOR_SHARE = 10.0, 0.25
"""A codeword's old place counts as ten vectors and a quarter of those that have it on average. With none, vectors never
seen lose what those trained on gain."""


def refitted(codebooks: Tensor, codes: Tensor, targets: Tensor) -> Tensor:
    """(M, K, D) codebooks, (n, M) codes and the (n, D) vectors that they stand for to better (M, K, D) codebooks.

        min over C of  |Z - B C|^2 + prior |C - C_0|^2            B the (n, M K) one-hot matrix of the codes

    The codebook update of Babenko & Lempitsky, "Additive Quantization", CVPR 2014, section 3.2, regularised.
    """
    steps, k, dim = codebooks.shape
    prior = PRIOR + PRIOR_SHARE * len(codes) / k
    better = codebooks.clone()
    left = targets.clone()
    for book, column in zip(better, codes.T, strict=True):
        left -= book[column.long()]
    for start in range(0, steps, GROUP):
        chosen = codes[:, start : start + GROUP].long()
        matrix = _normal_matrix(chosen, k)
        matrix.diagonal().add_(prior)
        wanted = torch.cat([group_sums(left, column, k) for column in chosen.T])
        change = torch.cholesky_solve(wanted, torch.linalg.cholesky(matrix)).reshape(-1, k, dim)
        better[start : start + GROUP] += change
        for part, column in zip(change, chosen.T, strict=True):
            left -= part[column]
    return better


def _normal_matrix(codes: Tensor, k: int) -> Tensor:
    """B^T B of (n, g) codes, (g k, g k): how often two codewords stand in one code."""
    _, g = codes.shape
    counts = torch.zeros(g, k, g, k, device=codes.device)
    for i in range(g):
        for j in range(i, g):
            together = torch.bincount(codes[:, i] * k + codes[:, j], minlength=k * k).reshape(k, k)
            counts[i, :, j], counts[j, :, i] = together, together.T
    return counts.reshape(g * k, g * k)
