"""The dense autoencoder; denoising when its input is corrupted. Knows no training loop."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.axes import principal_axes
from models.configs import DenseConfig
from models.metric import Metric
from models.scalar_code import ScalarCode
from models.space import ScalarSpace


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
        _, axes = principal_axes(h.T @ h)
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
