"""Codebooks that fit given codes best, up to 32 of them at once. Knows no search for codes."""

import numpy as np
import torch
from torch import Tensor

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
    left = targets - sum((book[column.long()] for book, column in zip(better, codes.T, strict=True)), torch.zeros(()))
    for start in range(0, steps, GROUP):
        chosen = codes[:, start : start + GROUP].long()
        matrix = _normal_matrix(chosen.numpy(), k)
        matrix.diagonal().add_(prior)
        wanted = torch.zeros(chosen.shape[1], k, dim)
        for sums, column in zip(wanted, chosen.T, strict=True):
            sums.index_add_(0, column, left)
        change = torch.cholesky_solve(wanted.reshape(-1, dim), torch.linalg.cholesky(matrix)).reshape(-1, k, dim)
        better[start : start + GROUP] += change
        left = left - sum((part[column] for part, column in zip(change, chosen.T, strict=True)), torch.zeros(()))
    return better


def _normal_matrix(codes: np.ndarray[tuple[int, int], np.dtype[np.int64]], k: int) -> Tensor:
    """B^T B of (n, g) codes, (g k, g k): how often two codewords stand in one code."""
    _, g = codes.shape
    counts = np.zeros((g, k, g, k), np.float32)
    for i in range(g):
        for j in range(i, g):
            together = np.bincount(codes[:, i] * k + codes[:, j], minlength=k * k).reshape(k, k)
            counts[i, :, j], counts[j, :, i] = together, together.T
    return torch.from_numpy(counts.reshape(g * k, g * k))
