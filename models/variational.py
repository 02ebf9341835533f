"""The variational autoencoder: latents that fit N(0, I), so that it can also draw. Knows no training loop."""

from typing import NamedTuple

import torch
from torch import Tensor

from models.axes import principal_axes
from models.configs import VariationalConfig
from models.dense import DenseAutoencoder, _begin, _perceptron
from models.metric import Metric

ACTIVE = 0.01
"""Variance of a latent's mean below which it says nothing about x (Burda et al. 2016, section 5.2)."""
LEAST_NOISE = 1e-3
"""Least s^2 chosen from data; with latents for every component there is nothing else to choose it from."""


class Elbo(NamedTuple):
    """The two terms of the bound, each a scalar."""

    reconstruction: Tensor
    """|h - x_hat|^2 / D, mean over vectors: in units of the data's variance."""
    kl: Tensor
    """KL(q(z|x) | N(0, I)), mean over vectors, in nats."""


class VariationalAutoencoder(DenseAutoencoder):
    """A dense autoencoder whose latents are distributions.

        h      = (x - mean) / scale,   c ~ corruption
        q(z|x) = N(mu, diag sigma^2),  mu = W (h + c) + f(h + c),  log sigma^2 = v(h + c)
        z      = mu + sigma * e,       e ~ N(0, I)
        x_hat  = D z + g(z),           p(x|z) = N(x_hat, s^2 I),   p(z) = N(0, I)
        KL     = 1/2 sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2)
        loss   = (|h - x_hat|^2 / (2 s^2) + beta KL) / D            -ELBO with beta = 1, but for a constant
        code   = R (gain * mu),        mu = R^T code / gain

    Kingma & Welling, "Auto-Encoding Variational Bayes", 2013; beta: Higgins et al., "beta-VAE", 2017.

    It starts at the optimum of the linear one, which is probabilistic PCA (Tipping & Bishop 1999; Lucas et al., "Don't
    Blame the ELBO!", 2019): with variances l_j along the principal axes u_j and t = beta s^2,
    D_j = u_j sqrt(l_j - t), W_j = u_j sqrt(1 - t / l_j) / sqrt(l_j), sigma_j^2 = t / l_j; an axis with l_j < t is left
    out. Its latents are N(0, 1) each, whatever the axis is worth, so the code is the mean with each latent stretched by
    its gain, the length in h of one step of mu_j: distances between codes are those between vectors. R, a random
    rotation, spreads them evenly over the code's grids. A latent that says nothing has gain 0.
    """

    kind = "variational"
    config: VariationalConfig
    noise: Tensor
    gain: Tensor
    rotation: Tensor

    def __init__(self, dim: int, config: VariationalConfig) -> None:
        super().__init__(dim, config)
        self.variance_net = _perceptron((dim, *config.hidden, config.latents))
        self.register_buffer("noise", torch.ones(()))
        self.register_buffer("gain", torch.ones(config.latents))
        self.register_buffer("rotation", torch.eye(config.latents))

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Mean and scale, then probabilistic PCA of the sample."""
        super().start(sample, generator)
        m, (n, dim) = self.config.latents, sample.shape
        h = self.standardized(sample)
        variances, axes = principal_axes(h.T @ h / n)
        variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
        left = float(variances[m:].mean()) if m < dim else 0.0
        self.noise.fill_(self.config.noise if self.config.noise is not None else max(left, LEAST_NOISE) ** 0.5)
        threshold = self.config.beta * self.noise.square()

        self.encoder.weight.zero_()
        self.decoder.weight.zero_()
        kept, leading = variances[:m].clamp_min(1e-12), axes[:, :m]
        share = (1 - threshold / kept).clamp_min(0) * (variances[:m] > 0)
        self.encoder.weight[: len(kept)] = (leading * (share / kept).sqrt()).T
        self.decoder.weight[:, : len(kept)] = leading * (share * kept).sqrt()
        _begin(self.variance_net, generator)
        *_, bias = self.variance_net.parameters()
        bias[: len(kept)] = (threshold / kept).clamp(1e-6, 1).log()
        draw = torch.randn(m, m, generator=generator, device=sample.device)
        self.rotation.copy_(torch.linalg.qr(draw)[0])

    def settle(self, sample: Tensor) -> None:
        """Fits the gains, then axes and grids to the codes they give."""
        h = self.standardized(sample)
        mean = self._latents(h)
        mean = mean - mean.mean(dim=0)
        variance = mean.square().mean(dim=0)
        step = (h.T @ mean / len(h)).norm(dim=0) / variance
        self.gain.copy_(torch.where(variance > ACTIVE, step, 0.0))
        super().settle(sample)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and log variance of q(z|x). (n, D) to two of (n, m)."""
        return self._posterior(self.standardized(x))

    def elbo(self, x: Tensor, generator: torch.Generator) -> Elbo:
        """Reconstruction from one drawn z a vector, and KL. (n, D)."""
        h = self.standardized(x)
        mean, log_variance = self._posterior(self.config.corruption(h, generator))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        z = mean + (log_variance / 2).exp() * noise
        return Elbo((h - self._output(z)).square().mean(), kl(mean, log_variance).mean())

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """-ELBO / D with the KL term weighted by beta."""
        reconstruction, divergence = self.elbo(x, generator)
        loss: Tensor = reconstruction / (2 * self.noise.square()) + self.config.beta * divergence / self.dim
        return loss

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Decodes z ~ N(0, I): (n, D) vectors such as it was trained on, without the noise s."""
        z = torch.randn(n, self.latents, generator=generator, device=self.noise.device, dtype=self.noise.dtype)
        return self.restored(self._output(z))

    def encode(self, x: Tensor) -> Tensor:
        """The mean, stretched and rotated. (n, D) to (n, m)."""
        return (super().encode(x) * self.gain) @ self.rotation.T

    def decode(self, z: Tensor) -> Tensor:
        """(n, m) to (n, D)."""
        return super().decode((z @ self.rotation) * self._shrink())

    def points(self, x: Tensor, metric: Metric) -> Tensor:
        """encode(q); under ip the linear path back, for <q, D mu> = <R (D^T q / gain), code>."""
        back = super().points(x, metric)
        return (back * self._shrink()) @ self.rotation.T if metric is Metric.IP else back

    def _posterior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return self._latents(h), self.variance_net(h)

    def _shrink(self) -> Tensor:
        """1 / gain, and 0 where that is 0."""
        return torch.where(self.gain > 0, 1 / self.gain, 0.0)


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag variance) | N(0, I)) in nats. (n, m) twice to (n,)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2
