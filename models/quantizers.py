"""FAISS's quantisers as autoencoders, by their factory strings. Knows no FAISS: quantizer_training.py asks it."""

import torch
from torch import Tensor

from models.autoencoder import Autoencoder
from models.configs import CODEWORDS, ResidualConfig
from models.factory import SCALARS, QuantizerConfig
from models.metric import Metric
from models.residual import ResidualAutoencoder
from models.scalar_code import HALF, ScalarCode
from models.space import ProductSpace, ScalarSpace

TIE = 1e-9
"""Share of a mean squared length by which a codeword gives way to an equal one before it: more than a sum of floats of
64 bits can be off by.
"""


class Quantizer(Autoencoder):
    """Numbers of a linear map, quantised.

        h     = (x - mean) / scale
        z     = A h                       A: d x D with orthonormal rows, from OPQ or PCA; none of it: the identity
        x_hat = mean + scale A^T z

    What A leaves out of the mean is given back, which FAISS's own decoder does not do where OPQ or PCA keep less.
    """

    kind = "faiss"
    exact = frozenset({"rotation"})
    config: QuantizerConfig
    rotation: Tensor | None
    """(dim, d), A^T"""

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        shape = config.shape(dim)
        super().__init__(dim, shape.width)
        self.config = config
        self.register_buffer("rotation", torch.eye(dim, shape.width) if shape.transform else None)

    def take(self, rotation: Tensor | None, tables: Tensor) -> None:
        """Sets what FAISS has learned; `tables` are those of a subclass."""
        del tables
        if self.rotation is not None and rotation is not None:
            self.rotation.copy_(rotation)

    def encode(self, x: Tensor) -> Tensor:
        """(n, dim) to (n, d)."""
        h = self.standardized(x)
        return h if self.rotation is None else h @ self.rotation

    def decode(self, z: Tensor) -> Tensor:
        """(n, d) to (n, dim)."""
        return self.restored(z if self.rotation is None else z @ self.rotation.T)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error, which nothing here descends."""
        del generator
        return self.error(x)

    def points(self, x: Tensor, metric: Metric) -> Tensor:
        """encode(q); under ip A q, for <q, A^T z> = <A q, z>."""
        if metric is not Metric.IP:
            return self.encode(x)
        return x if self.rotation is None else x @ self.rotation


class ScalarQuantizer(Quantizer):
    """SQ: each number on an even grid between the least and the greatest of the training vectors, or as float16."""

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        super().__init__(dim, config)
        self.code = ScalarCode(self.latents, SCALARS[config.shape(dim).quantizer])

    def take(self, rotation: Tensor | None, tables: Tensor) -> None:
        """(2, d) lows and widths of the grids; nothing of them for float16."""
        super().take(rotation, tables)
        if tables.numel():
            self.code.low.copy_(tables[0])
            self.code.width.copy_(tables[1].clamp_min(1e-12))

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.code.code_bytes

    def pack(self, z: Tensor) -> Tensor:
        """(n, d) to (n, code_bytes) uint8."""
        return self.code.pack(z)

    def unpack(self, codes: Tensor) -> Tensor:
        """(n, code_bytes) uint8 to (n, d)."""
        return self.code.unpack(codes)

    def space(self) -> ScalarSpace:
        """The grids."""
        return self.code.space()


class ProductQuantizer(Quantizer):
    """PQ: m blocks of d / m numbers, each the nearest of 256 codewords (Jegou et al., TPAMI 2011)."""

    codebooks: Tensor
    """(m, 256, d / m)"""

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        super().__init__(dim, config)
        self.register_buffer("codebooks", torch.zeros(config.steps, CODEWORDS, self.latents // config.steps))

    def take(self, rotation: Tensor | None, tables: Tensor) -> None:
        """(m, 256, d / m) codewords."""
        super().take(rotation, tables)
        self.codebooks.copy_(tables.clamp(-HALF, HALF))  # what float16 holds

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.config.steps

    def pack(self, z: Tensor) -> Tensor:
        """(n, d) to (n, m) uint8; of codewords that are equal, the first."""
        blocks = z.reshape(len(z), self.code_bytes, -1).unbind(dim=1)
        halves = self.codebooks.square().sum(dim=2) / 2
        halves = halves + torch.arange(CODEWORDS) * TIE * halves.mean().clamp_min(1e-30)
        columns = [
            (half - block @ words.T).argmin(dim=1)
            for block, words, half in zip(blocks, self.codebooks, halves, strict=True)
        ]
        return torch.stack(columns, dim=1).to(torch.uint8)

    def unpack(self, codes: Tensor) -> Tensor:
        """(n, m) uint8 to (n, d), the codewords side by side."""
        words = [book[column.long()] for book, column in zip(self.codebooks, codes.T, strict=True)]
        return torch.cat(words, dim=1)

    def space(self) -> ProductSpace:
        """The codewords."""
        return ProductSpace(self.codebooks.float().numpy())


class ResidualQuantizer(ResidualAutoencoder):
    """RQ: what Codewell's own residual codes begin as, without what training adds to it; searched as they are."""

    kind = "faiss"
    config: QuantizerConfig  # type: ignore[assignment]  # it has the steps and the beam

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        shape = config.shape(dim)
        super().__init__(dim, ResidualConfig(shape.m, shape.width))
        self.config = config

    def take(self, rotation: Tensor | None, tables: Tensor) -> None:
        """(m, 256, d) codewords; without a rotation the axes are those of the vectors."""
        if rotation is not None:
            self.principal.copy_(rotation)
        self.codebooks.copy_(tables.clamp(-HALF, HALF))


def quantizer(dim: int, config: QuantizerConfig) -> Quantizer | ResidualQuantizer:
    """The untrained quantiser that a factory string names.

    Raises:
        BadConfig: it does not fit (D,) vectors.
    """
    kind = config.shape(dim).quantizer
    if kind == "RQ":
        return ResidualQuantizer(dim, config)
    return (ProductQuantizer if kind == "PQ" else ScalarQuantizer)(dim, config)
