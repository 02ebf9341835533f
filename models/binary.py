"""Semantic hashing: a vector as b bits. Knows no index, no hash table and no training loop."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.autoencoder import Autoencoder
from models.axes import principal_axes
from models.configs import BinaryConfig
from models.metric import Metric
from models.space import ProductSpace

ANCHORS, NEIGHBOURS = 32, 15
"""Of a step that compares similarities: vectors that bring their neighbours along, and how many each."""
POOL, NEAREST = 8_192, 16
"""Vectors among which a step looks for neighbours, and how many of the nearest it draws from."""
SAME = 1e-5
"""Vectors nearer than this are one, and say nothing about order."""
MEASURED = 2_000
"""Held-out vectors whose order is measured: all pairs of them are looked at."""
ROTATIONS = 20
"""Rounds of Gong and Lazebnik's iteration before training, where there are fewer than two bits a component: with more
it turns some bits into copies of others."""
REACH = 4.0
"""Standard deviation of the activations at the start. As Adam's steps do not depend on it, the larger it is, the finer
training turns the hyperplanes."""


class BinaryAutoencoder(Autoencoder):
    """Bits that decode to the vector and are near where vectors are near.

        h     = (x - mean) / scale
        z     = W h + w + noise
        b     = sign(z)                                       in -1, +1; the gradient passes as that of tanh(z)
        x_hat = D b + d
        loss  = |h - x_hat|^2 / D
              + similarity KL(softmax_j s_ij / t | softmax_j g <b_i, b_j> / (m t)),   s_ij = -|h_i - h_j|^2 / 2 D
              + (n / 10) (balance mean_k E[b_k]^2 + decorrelation mean_{k != l} E[b_k b_l]^2)

    Semantic hashing (Salakhutdinov & Hinton 2009) with the straight-through gradient (Bengio et al. 2013) and the
    balanced, uncorrelated bits of spectral hashing (Weiss et al. 2008); n are the vectors of a step, each asking for
    all others, and some bring neighbours from a pool of training vectors along. W starts as iterative quantisation
    (Gong & Lazebnik 2011): principal axes, rotated towards signs; with more bits than components, a tight frame of
    them. D is solved for the bits by least squares, at the start and after each epoch. Without the similarity, bits
    decode better, but their Hamming distances keep fewer neighbours than that start's.
    """

    kind = "binary"
    config: BinaryConfig
    pool: Tensor

    def __init__(self, dim: int, config: BinaryConfig) -> None:
        super().__init__(dim, config.bits)
        self.config = config
        self.encoder = nn.Linear(dim, config.bits)
        self.decoder = nn.Linear(config.bits, dim)
        self.sharpness = nn.Parameter(torch.ones(()))
        self.register_buffer("pool", torch.empty(0, dim), persistent=False)

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.config.code_bytes(self.dim)

    def start(self, sample: Tensor, generator: torch.Generator) -> None:
        """Mean and scale, W from the rotated principal axes, D by least squares; keeps a pool of vectors."""
        super().start(sample, generator)
        m = self.config.bits
        h = self.standardized(sample)
        _, axes = principal_axes(h.T @ h)
        axes = axes.flip(1)[:, :m]
        rotation, _ = torch.linalg.qr(torch.randn(m, m, generator=generator, device=h.device))
        rotation = rotation[: axes.shape[1]]
        if m < 2 * self.dim:
            rotation = _rotated(h @ axes, rotation)
        weight = rotation.T @ axes.T
        spread = (h @ weight.T).square().mean().sqrt()
        self.encoder.weight.copy_(weight * (REACH / spread) if spread > 0 else weight)
        self.encoder.bias.zero_()
        self.sharpness.fill_(1.0)
        drawn = torch.randperm(len(sample), generator=generator, device=sample.device)
        self.pool = sample[drawn[: 4 * POOL]]

    def settle(self, sample: Tensor) -> None:
        """Solves D and d for the bits as they are. Buckets are bits of the code and need no axes."""
        h = self.standardized(sample)
        b = F.pad(_signs(self._latents(h)), (0, 1), value=1.0)
        ridge = torch.eye(b.shape[1], device=h.device, dtype=h.dtype)
        solved = torch.linalg.solve(b.T @ b + ridge, b.T @ h)
        self.decoder.weight.copy_(solved[:-1].T)
        self.decoder.bias.copy_(solved[-1])

    def train(self, mode: bool = True) -> "BinaryAutoencoder":
        """As nn.Module; leaving training also lets go of the pool."""
        if not mode:
            self.pool = self.pool[:0].clone()
        return super().train(mode)

    def encode(self, x: Tensor) -> Tensor:
        """(n, D) to the (n, b) activations whose signs are the bits."""
        return self._latents(self.standardized(x))

    def decode(self, z: Tensor) -> Tensor:
        """(n, b) to (n, D)."""
        x: Tensor = self.restored(self.decoder(z))
        return x

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Reconstruction, neighbours' order, balance and decorrelation."""
        if self.config.similarity and len(self.pool):
            x = self._with_neighbours(x, generator)
        h = self.standardized(x)
        z = self._latents(h)
        if self.config.noise:
            z = z + REACH * self.config.noise * torch.randn(z.shape, generator=generator, device=z.device)
        soft = torch.tanh(z / REACH)
        b = soft + (_signs(z) - soft).detach()
        loss = (h - self.decoder(b)).square().mean()
        if self.config.similarity:
            loss = loss + self.config.similarity * self._disorder(h, b)
        products = b.T @ b / len(b)
        others = products - torch.diag(products.diagonal())
        balance = self.config.balance * b.mean(dim=0).square().mean()
        total: Tensor = loss + len(b) / 10 * (balance + self.config.decorrelation * others.square().mean())
        return total

    def error(self, x: Tensor) -> Tensor:
        """What is asked of bits that are finished: the squared error and, as weighted, the order of the neighbours."""
        error = super().error(x)
        if not self.config.similarity:
            return error
        h = self.standardized(x[:MEASURED])
        return error + self.config.similarity * self._disorder(h, _signs(self._latents(h)))

    def pack(self, z: Tensor) -> Tensor:
        """(n, b) to (n, b / 8) uint8: bit j of byte i is set where latent 8 i + j is above 0."""
        n, m = z.shape
        bits = (z > 0).reshape(n, m // 8, 8).to(torch.uint8)
        return (bits << torch.arange(8, dtype=torch.uint8, device=z.device)).sum(dim=2, dtype=torch.uint8)

    def unpack(self, codes: Tensor) -> Tensor:
        """(n, b / 8) uint8 to (n, b) of -1 and +1."""
        shifts = torch.arange(8, dtype=torch.uint8, device=codes.device)
        bits = (codes[:, :, None] >> shifts) & 1
        return bits.flatten(1).to(self.mean.dtype) * 2 - 1

    def space(self) -> ProductSpace:
        """A byte is the eight signs it holds; codes are all equally long, so distances rank as <point, b>."""
        signs = self.unpack(torch.arange(256, dtype=torch.uint8)[:, None]).float()
        return ProductSpace(signs.expand(self.code_bytes, 256, 8).numpy())

    def points(self, x: Tensor, metric: Metric) -> Tensor:
        """The query's activations, which weigh each bit by its certainty; under ip D^T q, for <q, D b> = <D^T q, b>."""
        return x @ self.decoder.weight if metric is Metric.IP else self.encode(x)

    def _latents(self, h: Tensor) -> Tensor:
        z: Tensor = self.encoder(h)
        return z

    def _with_neighbours(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The batch, and to its first vectors some of their nearest in the pool."""
        anchors = x[:ANCHORS]
        start = int(torch.randint(max(1, len(self.pool) - POOL + 1), (), generator=generator, device=x.device))
        pool = self.pool[start : start + POOL]
        similarities = _similarities(self.standardized(anchors), self.standardized(pool))
        nearest = similarities.topk(min(NEAREST, len(pool)), dim=1).indices
        drawn = torch.randperm(nearest.shape[1], generator=generator, device=x.device)[:NEIGHBOURS]
        return torch.cat((x, pool[nearest[:, drawn].flatten()]))

    def _disorder(self, h: Tensor, b: Tensor) -> Tensor:
        """KL(order of the vectors | order of their bits), each row asking for all others: a scalar."""
        t = self.config.temperature
        wanted = _similarities(h, h)
        same = wanted >= wanted.diagonal()[:, None] - SAME
        found = self.sharpness * (b @ b.T) / self.config.bits
        wanted, found = ((s / t).masked_fill(same, -1e9).log_softmax(dim=1) for s in (wanted, found))
        return F.kl_div(found, wanted, reduction="batchmean", log_target=True)


def _signs(z: Tensor) -> Tensor:
    """-1 or +1."""
    return torch.where(z > 0, 1.0, -1.0).to(z.dtype)


def _similarities(anchors: Tensor, others: Tensor) -> Tensor:
    """-|h - h'|^2 / 2 D but for a term of each anchor's own: of unit vectors about their cosine. (a, D), (n, D)."""
    _, dim = anchors.shape
    return (anchors @ others.T - others.square().sum(dim=1) / 2) / dim


def _rotated(h: Tensor, rotation: Tensor) -> Tensor:
    """Turns (d, m) orthonormal rows so that (n, d) @ them lie near their signs: iterative quantisation. To (d, m)."""
    for _ in range(ROTATIONS):
        left, _, right = torch.linalg.svd(h.T @ _signs(h @ rotation), full_matrices=False)
        rotation = left @ right
    return rotation
