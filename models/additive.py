"""Beam search for additive codes: which codewords, one of each codebook, add up to a vector. Knows no training.

A code must not depend on the batch that its vector came in, nor on the machine. Products are formed in float64, where
the order of a sum makes no difference that survives rounding to float32; all else is added in one order.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.blocks import block_size

BLOCK = 2_048
"""Partial codes searched together, for some vectors: the candidates of so many take 2 MB, and stay in the cache."""
MAPPED = 512
"""Vectors that a thread takes at once."""
WIDEST, NARROWEST = 2, 1 / 8
"""Of a beam, where it begins and where it ends: what an early step drops no later one finds again."""
STRANDS = 16
"""Candidates are looked through by the least of so many each: the best lie in the strands with the least leasts."""


class Tables(NamedTuple):
    """M codebooks of K codewords as the search reads them: 4 K^2 M^2 / 2 bytes, 132 MB for 32 codebooks of 256."""

    words: Tensor
    """(M K, D) float64"""
    squares: Tensor
    """(M, K) squared lengths"""
    crossed: list[Tensor]
    """Of codebook m, (m K, K): twice the inner products of all codewords before it with its own"""

    @classmethod
    def of(cls, codebooks: Tensor) -> "Tables":
        """Prepares (M, K, D) float32 codewords."""
        m, k, dim = codebooks.shape
        words = codebooks.double().reshape(m * k, dim)
        crossed = [(2 * words[: i * k] @ words[i * k : (i + 1) * k].T).float() for i in range(m)]
        return cls(words, words.square().sum(dim=1).float().reshape(m, k), crossed)

    def to(self, device: torch.device) -> "Tables":
        """The same tables there: codes found on any device are equal."""
        return Tables(self.words.to(device), self.squares.to(device), [part.to(device) for part in self.crossed])


def searched(targets: Tensor, tables: Tables, beam: int) -> Tensor:
    """(n, D) float32 to the (n, M) uint8 codes with the least squared error that a beam finds.

    Babenko & Lempitsky, "Additive Quantization", CVPR 2014, section 3.2: |x - s - c|^2 is |x - s|^2 + |c|^2 - 2 <x, c>
    + 2 <s, c> for the sum s of a partial code, and <s, c> a sum of products known beforehand. `beam` partial codes are
    kept on average: the first steps keep twice as many, the last ones an eighth (docs/decisions/0013).
    """
    size = block_size(min(64, max(1, BLOCK // beam)), targets.device)
    starts = range(0, max(1, len(targets)), size)
    return torch.cat([_searched(targets[start : start + size], tables, beam) for start in starts])


def widths(beam: int, steps: int) -> list[int]:
    """Partial codes kept after each step."""
    fall = (WIDEST - NARROWEST) / max(1, steps - 1)
    return [max(1, round(beam * (WIDEST - fall * m))) for m in range(steps)]


def _searched(targets: Tensor, tables: Tables, beam: int) -> Tensor:
    steps, k = tables.squares.shape
    n = len(targets)
    alone = (targets.double() @ tables.words.T).float().mul_(-2).reshape(n, steps, k).add_(tables.squares)
    errors = targets.new_zeros((n, 1))
    words = torch.zeros((n, 1, 0), dtype=torch.int32, device=targets.device)
    for m, width in enumerate(widths(beam, steps)):
        w = words.shape[1]
        candidates = alone[:, m : m + 1] + errors[:, :, None]
        if m:
            pairs = torch.nn.functional.embedding_bag(words.reshape(n * w, m), tables.crossed[m], mode="sum")
            candidates += pairs.reshape(n, w, k)
        errors, chosen = least(candidates.reshape(n, w * k), min(width, w * k))
        before = chosen // k
        word = (chosen - before * k + m * k).to(torch.int32)
        words = torch.cat((words.gather(1, before[:, :, None].expand(-1, -1, m)), word[:, :, None]), dim=2)
    best = errors.argmin(dim=1)[:, None, None].expand(-1, 1, steps)
    return (words.gather(1, best)[:, 0] % k).to(torch.uint8)


def least(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` least of each row of (n, l), in any order, and their places: (n, count) each."""
    n, length = values.shape
    columns = length // STRANDS
    if columns * STRANDS != length or columns <= count:
        return values.topk(count, dim=1, largest=False, sorted=False)
    strands = values.reshape(n, STRANDS, columns)
    kept = strands.amin(dim=1).topk(count, dim=1, largest=False, sorted=False).indices
    inside = strands.gather(2, kept[:, None, :].expand(-1, STRANDS, -1)).reshape(n, STRANDS * count)
    found, places = inside.topk(count, dim=1, largest=False, sorted=False)
    row = places // count
    return found, kept.gather(1, places - row * count) + row * columns
