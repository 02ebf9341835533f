"""The dense autoencoder; denoising when its input is corrupted. Knows no training loop."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.corruption import Corruption, CorruptionKind
from models.errors import BadConfig
from models.metric import Metric
from models.scalar_code import LatentType, ScalarCode
from models.space import ScalarSpace


@dataclass(frozen=True)
class DenseConfig:
    """The shape of a dense autoencoder and how it is kept honest."""

    latents: int = 128
    """m, the numbers a vector is reduced to."""
    latent_type: LatentType = LatentType.INT4
    """How each is stored: a code has latents * bits / 8 bytes."""
    hidden: tuple[int, ...] = ()
    """Widths of the encoder's hidden layers from the input towards the latents; none makes it linear."""
    decoder_hidden: tuple[int, ...] = (1024,)
    """Widths of the decoder's hidden layers from the latents towards the output; none makes it linear."""
    corruption: Corruption = field(default_factory=Corruption)
    """The c of x + c; kind "none" for a plain autoencoder."""

    def __post_init__(self) -> None:
        if not 1 <= self.latents <= 65_536:
            raise BadConfig("latents", f"{self.latents} is not between 1 and 65536")
        for name, widths in (("hidden", self.hidden), ("decoder_hidden", self.decoder_hidden)):
            if len(widths) > 4 or any(not 1 <= width <= 65_536 for width in widths):
                raise BadConfig(name, f"{list(widths)} is not a list of up to 4 widths between 1 and 65536")

    def code_bytes(self, dim: int) -> int:
        """Bytes of a code of a (D,) vector."""
        del dim
        return self.latent_type.code_bytes(self.latents)

    @classmethod
    def for_bytes(cls, dim: int, code_bytes: int, **others: Any) -> "DenseConfig":
        """The shape for (D,) vectors and a code of at most `code_bytes`: the finest type in which D latents fit, else
        as many int4 latents as fit (two coarse numbers keep more neighbours than one fine one).
        """
        for latent_type in LatentType:
            if dim * latent_type.bits <= 8 * code_bytes:
                return cls(latents=dim, latent_type=latent_type, **others)
        return cls(latents=2 * code_bytes, latent_type=LatentType.INT4, **others)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DenseConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        corruption = values["corruption"]
        return cls(
            latents=values["latents"],
            latent_type=LatentType(values["latent_type"]),
            hidden=tuple(values["hidden"]),
            decoder_hidden=tuple(values["decoder_hidden"]),
            corruption=Corruption(CorruptionKind(corruption["kind"]), corruption["level"]),
        )


class DenseAutoencoder(Autoencoder):
    """A linear path through the principal axes, and a network beside it where there are hidden layers.

        h     = (x - mean) / scale,   c ~ corruption
        z     = W (h + c) + f(h + c)                f, g: multilayer perceptrons with gelu, absent without hidden layers
        x_hat = D z + g(z)
        loss  = |h - x_hat|^2                       the target is the clean input

    W starts as a random rotation of the leading principal axes, which spreads the variance evenly over the latents
    so that an even grid fits each of them; f and g start at zero: training begins at PCA and goes on from there.
    A linear undercomplete autoencoder ends in that subspace (Baldi & Hornik 1989); corrupting the input makes it a
    denoising autoencoder (Vincent et al. 2008, "Extracting and Composing Robust Features"; 2010, "Stacked Denoising
    Autoencoders"), whose r(x) - x follows the gradient of the data's log density (Alain & Bengio 2014, "What
    Regularized Auto-Encoders Learn from the Data-Generating Distribution"). Rounding the latents during training
    changed nothing measurable.
    """

    kind = "dense"
    config: DenseConfig

    def __init__(self, dim: int, config: DenseConfig) -> None:
        super().__init__(dim, config.latents)
        self.config = config
        self.code = ScalarCode(config.latents, config.latent_type)
        self.encoder = nn.Linear(dim, config.latents)
        self.decoder = nn.Linear(config.latents, dim)
        self.encoder_net = _perceptron((dim, *config.hidden, config.latents)) if config.hidden else None
        self.decoder_net = _perceptron((config.latents, *config.decoder_hidden, dim)) if config.decoder_hidden else None

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.code.code_bytes

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Mean and scale, then W and D from the sample's principal axes."""
        super().start(sample, generator)
        m = self.config.latents
        h = self.standardized(sample)
        _, axes = torch.linalg.eigh(h.T @ h)
        axes = axes.flip(1)[:, :m]
        draw = torch.randn(m, m, generator=generator, device=sample.device)
        rotation, _ = torch.linalg.qr(draw)
        # More latents than components: the remaining ones are rotations of the same axes.
        weight = rotation[:, : axes.shape[1]] @ axes.T
        self.encoder.weight.copy_(weight)
        self.encoder.bias.zero_()
        self.decoder.weight.copy_(weight.T)
        self.decoder.bias.zero_()
        for net in (self.encoder_net, self.decoder_net):
            if net is not None:
                _begin(net, generator)

    def settle(self, sample: Tensor) -> None:
        """Fits the latents' grids as well."""
        super().settle(sample)
        self.code.fit(self.encode(sample))

    def encode(self, x: Tensor) -> Tensor:
        """(n, D) to (n, m)."""
        return self._latents(self.standardized(x))

    def decode(self, z: Tensor) -> Tensor:
        """(n, m) to (n, D)."""
        return self.restored(self._output(z))

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the clean input given the corrupted one."""
        h = self.standardized(x)
        z = self._latents(self.config.corruption(h, generator))
        return (h - self._output(z)).square().mean()

    def pack(self, z: Tensor) -> Tensor:
        """(n, m) to (n, code_bytes) uint8."""
        return self.code.pack(z)

    def unpack(self, codes: Tensor) -> Tensor:
        """(n, code_bytes) uint8 to (n, m)."""
        return self.code.unpack(codes)

    def forget_decoder(self) -> None:
        """Drops the wide part of the decoder."""
        self.decoder_net = None

    def space(self) -> ScalarSpace:
        """The latents' grids."""
        return self.code.space()

    def points(self, x: Tensor, metric: Metric) -> Tensor:
        """encode(q); under ip the linear path back, D^T q, for <q, D z> = <D^T q, z>."""
        return x @ self.decoder.weight if metric is Metric.IP else self.encode(x)

    def _latents(self, h: Tensor) -> Tensor:
        z: Tensor = self.encoder(h)
        return z if self.encoder_net is None else z + self.encoder_net(h)

    def _output(self, z: Tensor) -> Tensor:
        h: Tensor = self.decoder(z)
        return h if self.decoder_net is None else h + self.decoder_net(z)


def _perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with gelu between them."""
    layers = [nn.Linear(before, after) for before, after in pairwise(widths)]
    return nn.Sequential(*(part for layer in layers[:-1] for part in (layer, nn.GELU())), layers[-1])


def _begin(net: nn.Sequential, generator: torch.Generator) -> None:
    """Draws the layers from `generator`, the last one zero: the net adds nothing at first."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer in layers:
        bound = layer.in_features**-0.5
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()
    layers[-1].weight.zero_()
