"""The base of every architecture: encode, decode, loss. Knows no optimiser, no bytes on disk and no numpy."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.axes import principal_axes
from models.metric import Metric
from models.space import Space

BUCKET_AXES = 16
"""Leading axes of the latents that hash buckets divide along: more of them separate true neighbours sooner."""


class Autoencoder(nn.Module, ABC):
    """z = encode(x), x_hat = decode(z); a code is the fixed-width bytes that stand for z.

    Inputs are standardised first: h = (x - mean) / scale, with one scale for all components, so that the squared
    error keeps the proportions of the data and a loss of 1 means "no better than the mean".
    """

    kind: ClassVar[str]
    exact: ClassVar[frozenset[str]] = frozenset()
    """Of its weights of two dimensions and more, those that float16 is too coarse or too narrow for."""
    config: Any
    """The frozen dataclass that it was made of."""
    mean: Tensor
    scale: Tensor
    centre: Tensor
    axes: Tensor

    def __init__(self, dim: int, latents: int) -> None:
        super().__init__()
        self.dim = dim
        self.latents = latents
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("centre", torch.zeros(latents))
        self.register_buffer("axes", torch.eye(latents, min(latents, BUCKET_AXES)))

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Takes mean and scale from an (n, D) sample; an architecture adds its own start, drawn from `generator`."""
        del generator
        self.mean.copy_(sample.mean(dim=0))
        spread = (sample - self.mean).square().mean().sqrt()
        # Data that never varies has no scale; 1 leaves it at zero instead of dividing by it.
        self.scale.copy_(spread if spread > 0 else torch.ones_like(spread))

    def settle(self, sample: Tensor) -> None:
        """Fits to the trained network what no gradient trains: here the axes in which latents vary most. (n, D)."""
        z = self.encode(sample)
        self.centre.copy_(z.mean(dim=0))
        _, axes = principal_axes((z - self.centre).T @ (z - self.centre))
        self.axes.copy_(axes.flip(1)[:, : self.axes.shape[1]])

    def standardized(self, x: Tensor) -> Tensor:
        """H = (x - mean) / scale."""
        return (x - self.mean) / self.scale

    def restored(self, h: Tensor) -> Tensor:
        """X = h * scale + mean."""
        return h * self.scale + self.mean

    @property
    @abstractmethod
    def code_bytes(self) -> int:
        """Bytes of one code."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """(n, D) vectors to (n, m) latents."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """(n, m) latents to (n, D) vectors."""

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """What training makes small: (n, D) to a scalar, differentiable."""

    @abstractmethod
    def pack(self, z: Tensor) -> Tensor:
        """(n, m) latents to (n, code_bytes) uint8."""

    @abstractmethod
    def unpack(self, codes: Tensor) -> Tensor:
        """(n, code_bytes) uint8 to the (n, m) latents they stand for."""

    def space(self) -> Space:
        """How an index reads the codes; a kind with a codec of its own says it there."""
        raise NotImplementedError

    def forget_decoder(self) -> None:
        """Drops what only `decode` needs, where there is much of it: this copy will only encode."""

    def points(self, x: Tensor, metric: Metric) -> Tensor:
        """(q, D) queries to what is compared with stored latents: their own latents, unless the metric wants more."""
        del metric
        return self.encode(x)

    def error(self, x: Tensor) -> Tensor:
        """Mean squared error of x through its code and back, in units of the data's variance: a scalar."""
        restored = self.decode(self.unpack(self.pack(self.encode(x))))
        return ((x - restored) / self.scale).square().mean()
