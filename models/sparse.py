"""The sparse autoencoder: many latents, few of them active. Knows no training loop and no buckets."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.configs import SparseConfig, Sparsity
from models.metric import Metric
from models.space import SparseSpace

FIT_ROWS, FIT_BLOCK = 16_384, 1_024
"""Vectors of the sample that `start` and `settle` look at, and how many at once: latents of all would fill the RAM."""
LEVELS = 255
"""The largest value in a code, in units."""
START_NOISE = 0.1
"""Added to the directions that latents start with, so that two that start at the same vector part."""
SPARE = 4
"""Times as many latents as are kept are above 0 at the start."""
SLOW, FAST = 0.1, 2.0
"""Powers of (active / k) by which the L1 penalty moves for good, and for one step."""


class SparseAutoencoder(Autoencoder):
    """Each vector is a sum of few out of many directions, learned with the choice.

        h     = (x - mean) / scale
        a     = W (h - b) + c
        z     = TopK(relu(a))               topk: Makhzani & Frey 2013, "k-Sparse Autoencoders"; Gao et al. 2024
              | relu(a) where a > theta     batch_topk: theta lets k a vector through on average (Bussmann et al. 2024)
              | relu(a)                     l1
        x_hat = D z + b                     |D_j| = 1
        loss  = |h - x_hat|^2 + lambda |z|_1 + alpha |(h - x_hat) - D TopK_dead(a)|^2

    lambda is 0 except for l1, where it grows while more than k latents are active and shrinks while fewer are. The
    last term (Gao et al. 2024, "Scaling and evaluating sparse autoencoders") teaches latents that fell silent what
    the others leave over; without the relu, which would let no gradient through where a latent is always below 0.
    That alone seldom makes one strong enough to be chosen, so c_j of the silent rises until they are. W and D start
    as the directions of vectors of the sample, and c such that every latent is above 0 for the same share of them:
    hardly one is dead at the start, or later.
    """

    kind = "sparse"
    config: SparseConfig
    theta: Tensor
    penalty: Tensor
    unit: Tensor
    silent: Tensor

    def __init__(self, dim: int, config: SparseConfig) -> None:
        super().__init__(dim, config.latents)
        # Buckets divide by the active latents, not along axes.
        del self.centre, self.axes
        self.config = config
        self.weight = nn.Parameter(torch.zeros(config.latents, dim))
        self.offset = nn.Parameter(torch.zeros(config.latents))
        self.atoms = nn.Parameter(torch.zeros(config.latents, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("theta", torch.zeros(()))
        self.register_buffer("penalty", torch.tensor(0.1 / math.sqrt(dim)))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("silent", torch.zeros(config.latents))

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.config.code_bytes(self.dim)

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Mean and scale; then W, D and c as the class says."""
        super().start(sample, generator)
        m, k = self.config.latents, self.config.k
        h = self.standardized(sample)
        chosen = torch.randperm(len(h), generator=generator, device=h.device)[torch.arange(m, device=h.device) % len(h)]
        noise = torch.randn(m, self.dim, generator=generator, device=h.device)
        self.atoms.copy_(nn.functional.normalize(h[chosen] + START_NOISE * noise))
        self.weight.copy_(self.atoms)
        self.bias.zero_()
        # TopK needs k above 0 in nearly every vector; under l1 those above 0 are the active ones.
        share = k / m if self.config.sparsity is Sparsity.L1 else min(0.5, SPARE * k / m)
        few = h[:: math.ceil(len(h) / (4 * FIT_BLOCK))]
        for some in torch.split(torch.arange(m, device=h.device), FIT_BLOCK):
            self.offset[some] = -torch.quantile(few @ self.weight[some].T, 1 - share, dim=0)
        self.silent.zero_()
        few = few[::4]
        # One factor for W and c changes what is active in nothing, and makes D z as long as fits h best.
        guess = self._sum(self._batch_active(self._scores(few)), self.atoms)
        factor = (few * guess).sum() / guess.square().sum().clamp_min(1e-12)
        self.weight.mul_(factor)
        self.offset.mul_(factor)

    def settle(self, sample: Tensor) -> None:
        """Brings D's columns back to length 1; fits theta, and the unit of the codes' values."""
        self.atoms.copy_(nn.functional.normalize(self.atoms))
        blocks = list(_strided(sample))
        if self.config.sparsity is Sparsity.BATCH_TOPK:
            self.theta.copy_(torch.stack([self._least(self._scores(self.standardized(x))) for x in blocks]).mean())
        values = torch.cat([self._strongest(self.encode(x)).values for x in blocks])
        reach = values.max().clamp_min(1e-12)
        units = [share * reach / LEVELS for share in torch.linspace(0.3, 1.0, 15).tolist()]
        errors = [((values / unit).round().clamp(0, LEVELS) * unit - values).square().mean() for unit in units]
        self.unit.copy_(units[int(torch.stack(errors).argmin())])

    def encode(self, x: Tensor) -> Tensor:
        """(n, D) to (n, m), about k of them not zero."""
        return self._active(self._scores(self.standardized(x)))

    def decode(self, z: Tensor) -> Tensor:
        """(n, m) to (n, D)."""
        return self.restored(self._sum(z, self.atoms) + self.bias)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error, the penalty, and what the dead latents fail to explain of the error."""
        del generator
        h = self.standardized(x)
        a = self._scores(h)
        z = self._batch_active(a)
        atoms = nn.functional.normalize(self.atoms)
        left = h - self._sum(z, atoms) - self.bias
        loss = left.square().mean()
        if self.config.sparsity is Sparsity.L1:
            loss = loss + self._adapted_penalty(z) * z.sum(dim=1).mean()
        dead = self._dead(z)
        if len(dead):
            best = a[:, dead].topk(min(self.config.revived, len(dead)), dim=1)
            guess = nn.functional.embedding_bag(dead[best.indices], atoms, per_sample_weights=best.values, mode="sum")
            loss = loss + self.config.revival * (left.detach() - guess).square().mean()
            with torch.no_grad():
                self.offset[dead] += self.config.lift * z.sum() / (z > 0).sum().clamp_min(1)
        return loss

    def pack(self, z: Tensor) -> Tensor:
        """(n, m) to (n, 3 k) uint8: the k strongest as indices, ascending, and values in units; 0 and 0 if unused."""
        values, indices = self._strongest(z)
        steps = (values / self.unit).round().clamp(0, LEVELS).long()
        # One number a pair, so that sorting leaves one order only; a value of no unit says nothing and has no index.
        pairs = torch.where(steps > 0, indices * 256 + steps, 0).sort(dim=1).values
        indices, steps = pairs >> 8, pairs & 255
        halves = torch.stack((indices & 255, indices >> 8), dim=2).flatten(1)
        return torch.cat((halves, steps), dim=1).to(torch.uint8)

    def unpack(self, codes: Tensor) -> Tensor:
        """(n, 3 k) uint8 to (n, m)."""
        indices, values = self.pairs(codes)
        return torch.zeros(len(codes), self.latents, dtype=values.dtype, device=codes.device).scatter_add_(
            1, indices, values
        )

    def pairs(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3 k) uint8 to (n, k) indices and (n, k) values."""
        halves, steps = codes[:, : 2 * self.config.k].long(), codes[:, 2 * self.config.k :]
        return halves[:, 0::2] + 256 * halves[:, 1::2], steps.to(self.unit.dtype) * self.unit

    def space(self) -> SparseSpace:
        """The layout of the pairs."""
        return SparseSpace(self.config.k, self.config.latents, float(self.unit))

    def points(self, x: Tensor, metric: Metric) -> Tensor:
        """(q, D) to (q, m + 1): <q, x_hat> = sum_j z_j <q, scale D_j> + <q, scale b + mean>; what has no z is last."""
        del metric
        rest = self.restored(self.bias)
        return torch.cat((self.scale * (x @ self.atoms.T), (x @ rest)[:, None]), dim=1)

    def scores(self, x: Tensor) -> Tensor:
        """A of (n, D) vectors, (n, m): what z is chosen from."""
        return self._scores(self.standardized(x))

    def _scores(self, h: Tensor) -> Tensor:
        return nn.functional.linear(h - self.bias, self.weight, self.offset)

    def _active(self, a: Tensor) -> Tensor:
        """Z of any number of vectors, one at a time."""
        if self.config.sparsity is Sparsity.TOPK:
            best = a.topk(self.config.k, dim=1)
            return torch.zeros_like(a).scatter(1, best.indices, nn.functional.relu(best.values))
        return torch.where(a > self.theta, a, 0)

    def _batch_active(self, a: Tensor) -> Tensor:
        """Z in training, where the vectors of a batch may share their k n latents."""
        if self.config.sparsity is Sparsity.BATCH_TOPK:
            return torch.where(a >= self._least(a.detach()), a, 0)
        return self._active(a)

    def _least(self, a: Tensor) -> Tensor:
        """The least of the k n largest positive of a batch."""
        return a.flatten().topk(self.config.k * len(a)).values[-1].clamp_min(0)

    def _strongest(self, z: Tensor) -> torch.return_types.topk:
        return z.topk(self.config.k, dim=1)

    def _sum(self, z: Tensor, atoms: Tensor) -> Tensor:
        """Z times D, adding up only the active: (n, m) to (n, D)."""
        rows, columns = z.nonzero(as_tuple=True)
        begins = torch.searchsorted(rows, torch.arange(len(z), device=z.device))
        summed: Tensor = nn.functional.embedding_bag(
            columns, atoms, begins, per_sample_weights=z[rows, columns], mode="sum"
        )
        return summed

    @torch.no_grad()
    def _adapted_penalty(self, z: Tensor) -> Tensor:
        """Lambda, which follows the share of active latents to k: slowly for good, at once for this step."""
        share = (z > 0).sum() / (self.config.k * len(z))
        self.penalty.mul_(share.clamp(0.5, 2) ** SLOW)
        return self.penalty * share.clamp(0.5, 2) ** FAST

    @torch.no_grad()
    def _dead(self, z: Tensor) -> Tensor:
        """Counts the steps since each latent was active; the indices of those that it was too many for."""
        self.silent.add_(1).masked_fill_((z > 0).any(dim=0), 0)
        return (self.silent > self.config.dead_after).nonzero().flatten()


def _strided(sample: Tensor) -> Iterator[Tensor]:
    """Up to FIT_ROWS vectors from all over the sample, in blocks that are each spread over it."""
    rows = sample[:: math.ceil(len(sample) / FIT_ROWS)]
    count = math.ceil(len(rows) / FIT_BLOCK)
    return (rows[first::count] for first in range(count))
