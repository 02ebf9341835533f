"""What the bytes of additive codes say of squared lengths and errors. Knows no training and no index."""

import torch
from torch import Tensor

from models.configs import CODEWORDS
from models.error_byte import SHARE, levels_of
from models.residual import ResidualAutoencoder

ROUNDS, PRIOR = 3, 20.0


def fit_lengths(model: ResidualAutoencoder, codes: Tensor, nearest: float) -> None:
    """Splits |z|^2 of (n, M) codes among their codewords, and says what a cosine loses with it, `nearest` being the
    mean score of near neighbours.

    Were codewords orthogonal, a share would be the codeword's own squared length: backfitting starts there, and goes
    from it as far as the vectors that have the codeword are many.
    """
    lengths = model.lengths[: len(model.codebooks)]
    lengths.copy_(model.codebooks.square().sum(dim=2))
    left = model.unpack(codes).square().sum(dim=1)
    left -= sum((share[column] for share, column in zip(lengths, codes.T.long(), strict=True)), torch.zeros(()))
    lengths[0] += left.mean()
    left -= left.mean()
    for _ in range(ROUNDS):
        for share, column in zip(lengths, codes.T.long(), strict=True):
            counts = torch.bincount(column, minlength=CODEWORDS)
            change = torch.zeros(CODEWORDS).index_add_(0, column, left) / (counts + PRIOR)
            share += change
            left -= change[column]
    length = model.squares(model.unpack(codes)).mean().clamp_min(1e-30).sqrt()
    model.pull.copy_(nearest / (2 * length))


def fit_errors(model: ResidualAutoencoder, errors: Tensor) -> None:
    """Sets the levels of an error byte by (n,) squared errors, in units of the scale."""
    model.pull.fill_(SHARE)
    model.lengths[-1] = SHARE * torch.from_numpy(levels_of(errors.numpy()))
