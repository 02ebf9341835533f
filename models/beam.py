"""Partial codes while their codebooks grow: what each leaves over, by one more codebook at a time. Knows no k-means.

What is grown must not depend on the machine; floating-point products do, for their sums are formed in another order.
Here they are exact: both factors are rounded to whole numbers of at most 127, and
sums of 1,024 such products fit the 24 bits of a float32, in whatever order. Whole numbers of this size are exact in
bfloat16 too, which processors that know it multiply three times faster.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from models.blocks import CPU

LEVELS = 127
"""Largest whole number of a rounded factor."""
BLOCK = 64
"""Vectors that take a step together: at a beam of 16 and 256 components their residuals take 1 MB, and stay in the
cache."""


class Codebooks(NamedTuple):
    """M codebooks of K codewords as a step reads them."""

    words: Tensor
    """(M, K, D) float32"""
    rounded: Tensor
    """(M, K, D) whole numbers, in the type that products are formed in"""
    scales: Tensor
    """(M, K) what one of them stands for"""
    squares: Tensor
    """(M, K) squared lengths"""

    @classmethod
    def of(cls, words: Tensor) -> "Codebooks":
        """Prepares (M, K, D) float32 codewords."""
        scales = words.abs().amax(dim=2).clamp_min(1e-30) * (1 / LEVELS)
        rounded = (words / scales[:, :, None]).round().to(product_type(words.device))
        return cls(words, rounded, scales, words.double().square().sum(dim=2).float())


class Beam(NamedTuple):
    """The best partial codes of n vectors, in any order."""

    residuals: Tensor
    """(n, w, D) what the codewords so far leave over"""
    errors: Tensor
    """(n, w) their squared lengths"""
    codes: Tensor
    """(n, w, m) uint8"""

    @classmethod
    def at(cls, targets: Tensor) -> "Beam":
        """No codeword chosen yet. (n, D)."""
        n, _ = targets.shape
        errors = targets.double().square().sum(dim=1, keepdim=True).float()
        return cls(targets[:, None, :], errors, torch.zeros((n, 1, 0), dtype=torch.uint8, device=targets.device))

    def step(self, books: Codebooks, m: int, width: int) -> "Beam":
        """Every partial code with every codeword of codebook m; keeps the `width` best."""
        n, w, dim = self.residuals.shape
        chosen_before = self.codes.reshape(n * w, self.codes.shape[2])
        _, k, _ = books.words.shape
        flat = self.residuals.reshape(n * w, dim)
        # Not divided by LEVELS: CUDA divides by a number as it multiplies by its reciprocal.
        scale = flat.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) * (1 / LEVELS)
        rounded = (flat / scale).round_().to(books.rounded.dtype)
        products = _products(rounded, books.rounded[m]).mul_(scale).mul_(-2 * books.scales[m])
        candidates = products.add_(books.squares[m]).reshape(n, w, k).add_(self.errors[:, :, None]).reshape(n, w * k)
        kept = min(width, w * k)
        chosen = candidates.topk(kept, dim=1, largest=False).indices
        before = chosen // k
        word = chosen - before * k
        place = (before + torch.arange(n, device=flat.device)[:, None] * w).reshape(-1)
        residuals = flat.index_select(0, place).sub_(books.words[m].index_select(0, word.reshape(-1)))
        codes = torch.cat((chosen_before.index_select(0, place), word.reshape(-1, 1).to(torch.uint8)), dim=1)
        residuals = residuals.reshape(n, kept, dim)
        # As they are, not as the rounded products have them: those of a first step may be off by more than what is
        # left after the last. In float64 the order of a sum makes no difference that survives.
        errors = residuals.double().square().sum(dim=2).float()
        return Beam(residuals, errors, codes.reshape(n, kept, codes.shape[1]))

    def ordered(self) -> "Beam":
        """The best first."""
        errors, order = self.errors.sort(dim=1, stable=True)
        return Beam(_ordered(self.residuals, order), errors, _ordered(self.codes, order))


@cache
def product_type(device: torch.device = CPU) -> torch.dtype:
    """bfloat16 where the processor multiplies it, else float32: the products are the same.

    On CUDA float32: other work takes longer there, and a product of bfloat16 may be summed up in bfloat16.
    """
    if device != CPU:
        return torch.float32
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


def _products(rows: Tensor, words: Tensor) -> Tensor:
    """(r, D) and (K, D) whole numbers to (r, K) float32, rounded as bfloat16 rounds its exact sums."""
    return (rows @ words.T).to(torch.bfloat16).float()


def _ordered(values: Tensor, order: Tensor) -> Tensor:
    """The w of (n, w, d) in the order that (n, w) says."""
    return values.gather(1, order[:, :, None].expand(-1, -1, values.shape[2]))
