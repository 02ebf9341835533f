"""The residual autoencoder: a code is one codeword a step, a vector is their sum. Knows no training loop."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.additive import Tables, searched
from models.autoencoder import Autoencoder
from models.errors import BadConfig
from models.metric import Metric
from models.space import ProductSpace

CODEWORDS = 256
"""Of a step: its index is one byte."""
MOST_STEPS = 64
"""A search by tables holds 128 KB for each pair of them: 528 MB."""


@dataclass(frozen=True)
class ResidualConfig:
    """The shape of a residual autoencoder, and how hard it looks for its codes."""

    steps: int = 32
    """M, the bytes of a code."""
    components: int = 256
    """D, the leading principal axes in which codewords live; a vector's dimension where that is less."""
    beam: int = 64
    """Partial codes kept while a vector is encoded, on average over the steps: 16 are three times as fast; 128, here
    and for `refit_beam`, half as fast, and may keep some tenths of a point more."""
    refit_beam: int = 32
    """The same while codebooks are refitted."""
    training_beam: int = 5
    """The same while they grow."""

    def __post_init__(self) -> None:
        for name, most in (
            ("steps", MOST_STEPS),
            ("components", 1_024),
            ("beam", 256),
            ("refit_beam", 256),
            ("training_beam", 256),
        ):
            if not 1 <= getattr(self, name) <= most:
                raise BadConfig(name, f"{getattr(self, name)} is not between 1 and {most}")

    def code_bytes(self, dim: int) -> int:
        """Bytes of a code of a (D,) vector."""
        del dim
        return self.steps

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ResidualConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        return cls(**values)


class ResidualAutoencoder(Autoencoder):
    """M steps, each of which describes what the steps before it left over by one of 256 codewords.

        h     = (x - mean) / scale
        z     = P^T h                                P the D leading principal axes
        i     = argmin |w (z - sum_m C_m[i_m])|^2    found by beam search over i_1 ... i_M, one byte each; w the weight
                                                     of each component (models/importance.py)
        x_hat = mean + scale P sum_m C_m[i_m]

    The first b bytes of a code are a code themselves. Residual quantisation with a beam (Chen et al., "Approximate
    nearest neighbor search by residual vector quantization", Sensors 2010; Babenko & Lempitsky 2014 for the beam) is
    the start; all codebooks are then solved at once for their codes (models/least_squares.py), and a decoder trained
    for neighbours is folded into them (models/distillation.py).
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
    """(M, 256) shares of |z|^2, which add up to about it"""
    pull: Tensor
    """Under cosine, what a score loses for each unit of |x_hat|^2: see `points`"""

    def __init__(self, dim: int, config: ResidualConfig) -> None:
        components = min(config.components, dim)
        super().__init__(dim, components)
        self.config = config
        self.register_buffer("principal", torch.eye(dim, components))
        self.register_buffer("codebooks", torch.zeros(config.steps, CODEWORDS, components))
        self.register_buffer("weights", torch.ones(components))
        self.register_buffer("lengths", torch.zeros(config.steps, CODEWORDS))
        self.register_buffer("pull", torch.zeros(()))

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.config.code_bytes(self.dim)

    def double(self) -> "ResidualAutoencoder":
        """What projects a vector, in float64; codebooks stay as they are, for the search rounds them anyway."""
        for name in ("mean", "scale", "principal"):
            setattr(self, name, getattr(self, name).double())
        return self

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Mean, scale and principal axes; the codebooks come with the training."""
        super().start(sample, generator)
        h = self.standardized(sample)
        _, axes = torch.linalg.eigh(h.T @ h)
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
        """(n, D) to (n, M) uint8, by beam search."""
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

    def space(self) -> ProductSpace:
        """A byte's point is its codeword and its share of |z|^2; a score adds up M products with one query."""
        points = torch.cat((self.codebooks, self.lengths[:, :, None]), dim=2)
        return ProductSpace(points.float().numpy(), additive=True)

    def points(self, x: Tensor, metric: Metric) -> Tensor:
        """(q, dim) queries to (q, D + 1): <p, (z, |z|^2)> orders codes as the metric does, up to a query's constant.

        ip:      <q, x_hat>, which asks for no length
        l2:      <h(q), z> - |z|^2 / 2
        cosine:  <q, x_hat> / |x_hat|, linear in |x_hat|^2 about its mean: <q, x_hat> - pull |x_hat|^2
        """
        if metric is Metric.L2:
            return torch.nn.functional.pad(self.encode(x), (0, 1), value=-0.5)
        if metric is Metric.IP:
            return torch.nn.functional.pad(x @ self.principal, (0, 1))
        against = (x - 2 * self.pull * self.mean) @ self.principal
        return torch.nn.functional.pad(against, (0, 1), value=-float(self.pull * self.scale))
