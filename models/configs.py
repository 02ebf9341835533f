"""The shapes of autoencoders, as their users ask for them. Knows no network: importing it imports no torch."""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from models.corruption import Corruption, CorruptionKind
from models.error_byte import SHORTEST
from models.errors import BadConfig
from models.metric import Metric

CODEWORDS = 256
"""Of a step of a residual autoencoder: its index is one byte."""
MOST_STEPS = 64
"""Of it, for a search by tables holds 128 KB for each pair of them: 528 MB."""


class LatentType(StrEnum):
    """How one latent is stored."""

    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        """Bits of one latent."""
        return {LatentType.FLOAT16: 16, LatentType.INT8: 8, LatentType.INT4: 4}[self]

    def code_bytes(self, latents: int) -> int:
        """Bytes of one code; an odd number of int4 latents leaves half of the last byte empty."""
        return (latents * self.bits + 7) // 8


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


@dataclass(frozen=True)
class VariationalConfig(DenseConfig):
    """The shape of a dense autoencoder, and what its latents' distribution costs."""

    corruption: Corruption = field(default_factory=lambda: Corruption(CorruptionKind.NONE, 0.0))
    """The c of x + c; the noise of the latents is enough, so none."""
    beta: float = 1.0
    """Weight of the KL term: 1 is the ELBO, 0 none of it, more gives fewer and more independent latents."""
    noise: float | None = None
    """s, the standard deviation of x around x_hat, in that of the data; none: what m principal axes leave out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta <= 1e6:
            raise BadConfig("beta", f"{self.beta} is not between 0 and 1000000")
        if self.noise is not None and not 1e-4 <= self.noise <= 100:
            raise BadConfig("noise", f"{self.noise} is not between 0.0001 and 100")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VariationalConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        return cls(**vars(DenseConfig.from_dict(values)), beta=values["beta"], noise=values["noise"])


class Sparsity(StrEnum):
    """What keeps most latents at zero."""

    TOPK = "topk"
    """The k largest of each vector."""
    BATCH_TOPK = "batch_topk"
    """The k n largest of a batch of n in training, what passes a threshold afterwards."""
    L1 = "l1"
    """A penalty on their sum, as high as it takes for k of them to be active on average."""


@dataclass(frozen=True)
class SparseConfig:
    """How many latents there are, how many of them speak, and how silent ones are brought back."""

    latents: int = 4096
    """m, the latents to choose from; usually 4 to 16 times the vectors' dimension."""
    k: int = 32
    """Active latents of a vector: a code has 3 k bytes."""
    sparsity: Sparsity = Sparsity.TOPK
    """What keeps the others at zero."""
    dead_after: int = 50
    """Training steps without being active after which a latent counts as dead."""
    revived: int = 256
    """The dead latents that try to explain what is left of a vector, at most."""
    revival: float = 1 / 32
    """Weight of their loss."""
    lift: float = 0.02
    """What a dead latent's offset gains each step until it is active again, as a share of the mean active value."""

    def __post_init__(self) -> None:
        if not 2 <= self.latents <= 65_536:
            raise BadConfig("latents", f"{self.latents} is not between 2 and 65536")
        if not 1 <= self.k < self.latents:
            raise BadConfig("k", f"{self.k} is not between 1 and {self.latents - 1}, one less than the latents")
        for name in ("dead_after", "revived"):
            if getattr(self, name) < 1:
                raise BadConfig(name, f"{getattr(self, name)} is not above 0")
        for name in ("revival", "lift"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadConfig(name, f"{getattr(self, name)} is not between 0 and 1")

    def code_bytes(self, dim: int) -> int:
        """Bytes of a code of a (D,) vector: two for an index, one for its value."""
        del dim
        return 3 * self.k

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SparseConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        return cls(**values | {"sparsity": Sparsity(values["sparsity"])})


@dataclass(frozen=True)
class BinaryConfig:
    """How many bits, and what they are asked for besides the reconstruction."""

    bits: int = 256
    """b, a multiple of 8: a code has b / 8 bytes."""
    similarity: float = 0.5
    """Weight of the neighbours' order among codes; 0 leaves a plain autoencoder."""
    temperature: float = 0.05
    """Of the softmax over similarities: the smaller, the more the nearest count."""
    balance: float = 0.1
    """Weight of the bits' squared means: every bit set in half of the codes."""
    decorrelation: float = 0.03
    """Weight of the squared products of different bits: no bit says what another one said."""
    noise: float = 0.1
    """Standard deviation of Gaussian noise before the threshold, in units of the activations' own at the start."""

    def __post_init__(self) -> None:
        if self.bits % 8 or not 8 <= self.bits <= 65_536:
            raise BadConfig("bits", f"{self.bits} is not a multiple of 8 between 8 and 65536")
        if not self.temperature > 0:
            raise BadConfig("temperature", f"{self.temperature} is not above 0")
        for name in ("similarity", "balance", "decorrelation", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadConfig(name, f"{getattr(self, name)} is not a number from 0 upwards")

    def code_bytes(self, dim: int) -> int:
        """Bytes of a code of a (D,) vector."""
        del dim
        return self.bits // 8

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BinaryConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        return cls(**values)


@dataclass(frozen=True)
class ResidualConfig:
    """The shape of a residual autoencoder, and how hard it looks for its codes."""

    steps: int = 32
    """M, codewords of a code, each of which is a byte of it."""
    components: int = 256
    """D, the leading principal axes in which codewords live; a vector's dimension where that is less."""
    beam: int = 64
    """Partial codes kept while a vector is encoded, on average over the steps: 16 are three times as fast; 128, here
    and for `refit_beam`, half as fast, and may keep some tenths of a point more."""
    refit_beam: int = 32
    """The same while codebooks are refitted."""
    training_beam: int = 5
    """The same while they grow."""
    error_byte: bool = False
    """Whether a code has a byte more, which Euclidean scores gain by: see models/error_byte.py."""

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
        if self.error_byte and not SHORTEST <= self.steps + 1 <= MOST_STEPS:
            raise BadConfig("error_byte", f"it is for codes of {SHORTEST} to {MOST_STEPS} bytes, not {self.steps + 1}")

    def code_bytes(self, dim: int) -> int:
        """Bytes of a code of a (D,) vector."""
        del dim
        return self.steps + bool(self.error_byte)

    @classmethod
    def for_bytes(cls, size: int, metric: Metric, **others: Any) -> "ResidualConfig":
        """The shape whose codes of `size` bytes keep most neighbours by this metric."""
        error_byte = metric is Metric.L2 and size >= SHORTEST
        return cls(size - error_byte, error_byte=error_byte, **others)

    def cut(self, size: int) -> "ResidualConfig":
        """Of codes cut to `size` bytes."""
        error_byte = self.error_byte and size >= SHORTEST
        return replace(self, steps=size - error_byte, error_byte=error_byte)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ResidualConfig":
        """The configuration that `dataclasses.asdict` and JSON wrote."""
        return cls(**values)


def described(config: Any) -> dict[str, Any]:
    """A configuration as `from_dict` reads it. Where there is no error byte nothing is said of one: codecs of before
    keep their fingerprints, and programs of before read the others.
    """
    return {name: value for name, value in asdict(config).items() if (name, value) != ("error_byte", False)}
