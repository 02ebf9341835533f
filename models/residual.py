"""The residual autoencoder: a code is one codeword a step, a vector is their sum. Knows no training loop."""

import torch
from torch import Tensor

from models.additive import Tables, searched
from models.autoencoder import Autoencoder
from models.axes import principal_axes
from models.configs import CODEWORDS, ResidualConfig
from models.metric import Metric


class ResidualAutoencoder(Autoencoder):
    """M steps, each of which describes what the steps before it left over by one of 256 codewords.

        h     = (x - mean) / scale
        z     = P^T h                                P the D leading principal axes
        i     = argmin |w (z - sum_m C_m[i_m])|^2    found by beam search over i_1 ... i_M, one byte each; w the weight
                                                     of each component (models/importance.py)
        x_hat = mean + scale P sum_m C_m[i_m]

    Where the configuration has it, a last byte is the level of |h - (x_hat - mean) / scale|^2 (models/error_byte.py).
    The first b bytes of a code are a code themselves. Residual quantisation with a beam (Chen et al., "Approximate
    nearest neighbor search by residual vector quantization", Sensors 2010; Babenko & Lempitsky 2014 for the beam) is
    the start; all codebooks are then solved at once for their codes (models/least_squares.py), and without an error
    byte a decoder trained for neighbours is folded into them (models/distillation.py).
    """

    kind = "residual"
    exact = frozenset({"principal", "lengths"})
    config: ResidualConfig
    principal: Tensor
    """(dim, D)"""
    codebooks: Tensor
    """(M, 256, D)"""
    weights: Tensor
    """(D,) what an error along each component counts while codes are chosen"""
    lengths: Tensor
    """(M, 256) shares of |z|^2, which add up to about it; of an error byte, what its levels add to it in a score"""
    pull: Tensor
    """Under cosine, what a score loses for each unit of |x_hat|^2: see ResidualCodec.points. With an error byte, what
    it loses for each unit of squared error."""

    def __init__(self, dim: int, config: ResidualConfig) -> None:
        components = min(config.components, dim)
        super().__init__(dim, components)
        self.config = config
        self.register_buffer("principal", torch.eye(dim, components))
        self.register_buffer("codebooks", torch.zeros(config.steps, CODEWORDS, components))
        self.register_buffer("weights", torch.ones(components))
        self.register_buffer("lengths", torch.zeros(config.code_bytes(dim), CODEWORDS))
        self.register_buffer("pull", torch.zeros(()))

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.config.code_bytes(self.dim)

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Mean, scale and principal axes; the codebooks come with the training."""
        super().start(sample, generator)
        h = self.standardized(sample)
        _, axes = principal_axes(h.T @ h)
        self.principal.copy_(axes.flip(1)[:, : self.latents])

    def settle(self, sample: Tensor) -> None:
        """Nothing: buckets are the leading bytes of the code."""

    def encode(self, x: Tensor) -> Tensor:
        """(n, dim) to its (n, D) principal components, which `pack` finds codewords for."""
        return self.standardized(x) @ self.principal

    def decode(self, z: Tensor) -> Tensor:
        """(n, D) to (n, dim)."""
        return self.restored(z @ self.principal.T)

    def pack(self, z: Tensor) -> Tensor:
        """(n, D) to (n, M) uint8, by beam search; an error byte is not among them."""
        return searched((z * self.weights).float(), self.searched(), self.config.beam)

    def searched(self) -> Tables:
        """The codebooks as the search reads them, for components multiplied by their weights."""
        return Tables.of(self.codebooks * self.weights)

    def unpack(self, codes: Tensor) -> Tensor:
        """(n, b) uint8, b at most M, to the (n, D) sums of their codewords."""
        z = torch.zeros(len(codes), self.latents, device=codes.device)
        for book, column in zip(self.codebooks, codes.T, strict=False):
            z += book[column.long()]
        return z

    def scores(self, queries: Tensor, z: Tensor, metric: Metric) -> Tensor:
        """(q, dim) queries, prepared for the metric, and their (q, c, D) candidates to (q, c): that of <q, x_hat>.

        Under cosine x_hat is put back on the sphere; nothing of dim numbers is formed for a candidate.
        """
        if metric is Metric.L2:
            centred = queries - self.mean
            products = torch.einsum("qd,qcd->qc", centred @ self.principal, z)
            squares = centred.square().sum(dim=1)[:, None] + self.scale**2 * z.square().sum(dim=2)
            return (2 * self.scale * products - squares).clamp_max(0)
        products = torch.einsum("qd,qcd->qc", queries @ self.principal, z)
        products = (queries @ self.mean)[:, None] + self.scale * products
        return products if metric is Metric.IP else products / self.squares(z).sqrt()

    def squares(self, z: Tensor) -> Tensor:
        """|x_hat|^2 of (..., D); where its terms cancel, no less than a millionth of a component's variance."""
        mean = self.mean @ self.principal
        squares = self.mean.square().sum() + self.scale * (2 * (z @ mean) + self.scale * z.square().sum(dim=-1))
        return squares.clamp_min(1e-6 * float(self.scale) ** 2)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error, which nothing here descends: see models/residual_training.py."""
        del generator
        return self.error(x)
