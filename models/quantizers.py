"""FAISS's quantisers as autoencoders, by their factory strings. Knows no FAISS: quantizer_training.py asks it."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.autoencoder import Autoencoder
from models.errors import BadConfig
from models.metric import Metric
from models.residual import CODEWORDS, ResidualAutoencoder, ResidualConfig
from models.scalar_code import HALF, LatentType, ScalarCode
from models.space import ProductSpace, ScalarSpace

GRAMMAR = re.compile(
    r"(?:(?:OPQ(?P<blocks>[0-9]{1,3})(?:_(?P<width>[0-9]{1,5}))?|(?P<pca>PCAR?)(?P<axes>[0-9]{1,5})),)?"
    r"(?:(?P<quantizer>PQ|RQ)(?P<m>[0-9]{1,3})x8|(?P<scalar>SQ4|SQ8|SQfp16))"
)
FORMS = "an optional OPQm_d, PCAd or PCARd and a comma, then PQmx8, RQmx8, SQ4, SQ8 or SQfp16"
SCALARS = {"SQ4": LatentType.INT4, "SQ8": LatentType.INT8, "SQfp16": LatentType.FLOAT16}
MOST_STEPS = 256
"""Bytes of a PQ's or RQ's code."""
WIDEST_TRANSFORMED = 4_096
"""Longest vector that OPQ and PCA take: their matrices have this number squared, 67 MB."""
WIDEST_RESIDUAL, MOST_RESIDUAL = 1_024, 65_536
"""Numbers of RQ's codewords, and of them times the steps: 67 MB of codebooks."""
BEAM = 5
"""Partial codes kept by RQ: FAISS's default."""
TIE = 1e-9
"""Share of a mean squared length by which a codeword gives way to an equal one before it: more than a sum of floats of
64 bits can be off by.
"""


class Shape(NamedTuple):
    """What a factory string says about (D,) vectors."""

    transform: str
    """OPQ, PCA, PCAR, or empty where there is none"""
    blocks: int
    """that OPQ balances, 0 without it"""
    width: int
    """d, the numbers that are quantised"""
    quantizer: str
    """PQ, RQ, SQ4, SQ8 or SQfp16"""
    m: int
    """codewords of a code, 0 for SQ"""


@dataclass(frozen=True)
class QuantizerConfig:
    """A quantiser by the string that `faiss.index_factory` knows it by: only those of `GRAMMAR` can be said."""

    factory: str
    """Such as OPQ32_192,PQ32x8."""

    def __post_init__(self) -> None:
        parts = self._parts()
        for name, what in (("m", parts["quantizer"]), ("blocks", "OPQ")):
            if parts[name] is not None and not 1 <= int(parts[name]) <= MOST_STEPS:
                raise BadConfig("factory", f"{what}{parts[name]} is not between {what}1 and {what}{MOST_STEPS}")
        if 0 in (int(parts[name] or 1) for name in ("width", "axes")):
            raise BadConfig("factory", f"{self.factory} keeps 0 numbers of a vector; 1 is the least")

    @property
    def steps(self) -> int:
        """M, as a residual autoencoder has it."""
        return int(self._parts()["m"] or 0)

    @property
    def beam(self) -> int:
        """Partial codes kept by RQ."""
        return BEAM

    def shape(self, dim: int) -> Shape:
        """What it makes of (D,) vectors.

        Raises:
            BadConfig: it does not fit them.
        """
        parts = self._parts()
        transform = "OPQ" if parts["blocks"] else parts["pca"] or ""
        width = int(parts["width"] or parts["axes"] or dim)
        shape = Shape(
            transform, int(parts["blocks"] or 0), width, parts["quantizer"] or parts["scalar"], int(parts["m"] or 0)
        )
        if width > dim:
            raise BadConfig(
                "factory", f"{transform} keeps {width} numbers of vectors that have {dim}; say {dim} at most"
            )
        if transform and dim > WIDEST_TRANSFORMED:
            raise BadConfig("factory", f"{transform} takes vectors of {WIDEST_TRANSFORMED} numbers at most, not {dim}")
        for name, m in (("OPQ", shape.blocks), ("PQ", shape.m if shape.quantizer == "PQ" else 0)):
            if m and width % m:
                raise BadConfig("factory", f"{name}{m} does not divide {width} numbers: let it keep a multiple of {m}")
        if shape.quantizer == "RQ" and (width > WIDEST_RESIDUAL or width * shape.m > MOST_RESIDUAL):
            most = min(WIDEST_RESIDUAL, MOST_RESIDUAL // shape.m)
            raise BadConfig("factory", f"RQ{shape.m} takes {most} numbers at most, not {width}: begin with PCA{most},")
        return shape

    def code_bytes(self, dim: int) -> int:
        """Bytes of a code of a (D,) vector."""
        shape = self.shape(dim)
        return shape.m or SCALARS[shape.quantizer].code_bytes(shape.width)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "QuantizerConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        return cls(**values)

    def _parts(self) -> dict[str, Any]:
        matched = GRAMMAR.fullmatch(self.factory)
        if matched is None:
            raise BadConfig("factory", f"{self.factory[:100]!r} is none that is allowed: {FORMS}")
        return matched.groupdict()


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
