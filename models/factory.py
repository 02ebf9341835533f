"""FAISS's quantisers by their factory strings: only those of a grammar can be said. Knows neither FAISS nor torch."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.configs import LatentType
from models.errors import BadConfig

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
    def additive(self) -> bool:
        """RQ: codewords that add up."""
        return bool(self._parts()["quantizer"] == "RQ")

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

    def cut(self, size: int) -> "QuantizerConfig":
        """Of the first `size` bytes of its codes, where they are codewords that add up."""
        return QuantizerConfig(self.factory.removesuffix(f"RQ{self._parts()['m']}x8") + f"RQ{size}x8")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "QuantizerConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        return cls(**values)

    def _parts(self) -> dict[str, Any]:
        matched = GRAMMAR.fullmatch(self.factory)
        if matched is None:
            raise BadConfig("factory", f"{self.factory[:100]!r} is none that is allowed: {FORMS}")
        return matched.groupdict()
