"""What a user asks of a codec, as it is sent, stored with a collection and handed to a training."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from models import (
    MOST_STEPS,
    BadConfig,
    BinaryConfig,
    CodecConfig,
    Corruption,
    CorruptionKind,
    DenseConfig,
    LatentType,
    Metric,
    QuantizerConfig,
    ResidualConfig,
    SparseConfig,
    Sparsity,
    TrainingConfig,
    VariationalConfig,
)


class CorruptionSpec(BaseModel):
    """Noise on the training input: with it, a dense autoencoder is a denoising one."""

    model_config = ConfigDict(extra="forbid")

    kind: CorruptionKind = CorruptionKind.GAUSSIAN
    level: float = Field(
        0.1,
        ge=0,
        le=10,
        description="Standard deviation in units of the data's (gaussian), or share of components (the others)",
    )


class Spec(BaseModel):
    """What every kind has."""

    model_config = ConfigDict(extra="forbid")


class DenseSpec(Spec):
    """A dense autoencoder; with corruption, which is the default, a denoising one."""

    kind: Literal["dense"] = "dense"
    bytes: int = Field(
        64, ge=1, le=65_536, description="Bytes of a code, at most; latents and latent_type follow from it"
    )
    latents: int | None = Field(
        None, ge=1, le=65_536, description="Numbers a vector is reduced to; overrides what follows from `bytes`"
    )
    latent_type: LatentType | None = Field(
        None, description="How each latent is stored; int4 where only `latents` is given"
    )
    hidden: list[int] = Field(
        [], max_length=4, description="Widths of the encoder's hidden layers; none makes it linear"
    )
    decoder_hidden: list[int] = Field([1024], max_length=4, description="Widths of the decoder's hidden layers")
    corruption: CorruptionSpec = CorruptionSpec()

    def config(self, dim: int, metric: Metric) -> CodecConfig:
        """The autoencoder for (D,) vectors and this metric.

        Raises:
            BadConfig: naming the field.
        """
        del metric
        return DenseConfig(**self._shape(dim), corruption=Corruption(self.corruption.kind, self.corruption.level))

    def _shape(self, dim: int) -> dict[str, Any]:
        latents, latent_type = self.latents, self.latent_type
        if latents is None and latent_type is None:
            sized = DenseConfig.for_bytes(dim, self.bytes)
            latents, latent_type = sized.latents, sized.latent_type
        latent_type = latent_type or LatentType.INT4
        return {
            "latents": latents or max(1, min(dim, 8 * self.bytes // latent_type.bits)),
            "latent_type": latent_type,
            "hidden": tuple(self.hidden),
            "decoder_hidden": tuple(self.decoder_hidden),
        }


class VariationalSpec(DenseSpec):
    """A variational autoencoder: its mean is the code."""

    kind: Literal["variational"] = "variational"  # type: ignore[assignment]
    corruption: CorruptionSpec = CorruptionSpec(kind=CorruptionKind.NONE, level=0)
    beta: float = Field(1.0, ge=0, le=1e6, description="Weight of the KL term: 1 is the ELBO")
    noise: float | None = Field(
        None, ge=1e-4, le=100, description="Standard deviation of x around its reconstruction, in units of the data's"
    )

    def config(self, dim: int, metric: Metric) -> CodecConfig:
        """As a dense one's, with the price of the latents' distribution."""
        del metric
        corruption = Corruption(self.corruption.kind, self.corruption.level)
        return VariationalConfig(**self._shape(dim), corruption=corruption, beta=self.beta, noise=self.noise)


class SparseSpec(Spec):
    """A sparse autoencoder: a code is k pairs of a latent and its value, 3 bytes each."""

    kind: Literal["sparse"]
    bytes: int = Field(64, ge=3, le=65_536, description="Bytes of a code, at most; k is a third of it")
    k: int | None = Field(None, ge=1, description="Active latents of a vector, instead of `bytes`")
    latents: int | None = Field(
        None, ge=2, le=65_536, description="Latents to choose from; 8 times the dimension if none"
    )
    sparsity: Sparsity = Field(Sparsity.TOPK, description="What keeps the others at zero")

    def config(self, dim: int, metric: Metric) -> CodecConfig:
        """The autoencoder for (D,) vectors."""
        del metric
        k = self.k or self.bytes // 3
        return SparseConfig(latents=self.latents or max(2 * k, min(8 * dim, 16_384)), k=k, sparsity=self.sparsity)


class BinarySpec(Spec):
    """A binary autoencoder: semantic hashing into 8 bits a byte."""

    kind: Literal["binary"]
    bytes: int = Field(32, ge=1, le=8_192, description="Bytes of a code")

    def config(self, dim: int, metric: Metric) -> CodecConfig:
        """The autoencoder; its shape follows from the bytes alone."""
        del dim, metric
        return BinaryConfig(bits=8 * self.bytes)


class ResidualSpec(Spec):
    """A residual autoencoder: each byte is a codeword, a vector is their sum; under l2 one byte of eight or more tells
    how far the vector is from that.
    """

    kind: Literal["residual"]
    bytes: int = Field(32, ge=1, le=MOST_STEPS, description="Bytes of a code")
    beam: int = Field(
        64,
        ge=1,
        le=256,
        description="Partial codes kept while encoding: half as many are twice as fast and keep a little less",
    )

    def config(self, dim: int, metric: Metric) -> CodecConfig:
        """The autoencoder; everything else follows from the metric and the data."""
        del dim
        return ResidualConfig.for_bytes(self.bytes, metric, beam=self.beam, refit_beam=-(-self.beam // 2))


class FaissSpec(Spec):
    """A quantiser of FAISS's, trained by it; the string says how many bytes a code has."""

    kind: Literal["faiss"]
    factory: str = Field(
        max_length=100,
        description="FAISS's name of it: an OPQ or PCA, if any, then PQ, RQ or SQ",
        examples=["OPQ32_192,PQ32x8"],
    )

    def config(self, dim: int, metric: Metric) -> CodecConfig:
        """The quantiser, which must fit (D,) vectors."""
        del metric
        config = QuantizerConfig(self.factory)
        config.shape(dim)
        return config


class AutoSpec(Spec):
    """Whatever a plan finds to be the cheapest that keeps the contract."""

    kind: Literal["auto"]

    def config(self, dim: int, metric: Metric) -> CodecConfig:
        """Raises BadConfig: only a training of a collection can choose."""
        del dim, metric
        raise BadConfig("kind", "auto is chosen by the training of a collection; here, name another kind")


def _kind(given: Any) -> Any:
    return given.get("kind", "dense") if isinstance(given, dict) else getattr(given, "kind", None)


CodecSpec = Annotated[
    Annotated[DenseSpec, Tag("dense")]
    | Annotated[VariationalSpec, Tag("variational")]
    | Annotated[SparseSpec, Tag("sparse")]
    | Annotated[BinarySpec, Tag("binary")]
    | Annotated[ResidualSpec, Tag("residual")]
    | Annotated[FaissSpec, Tag("faiss")]
    | Annotated[AutoSpec, Tag("auto")],
    Discriminator(_kind),
]
"""Which autoencoder: `kind` says so, dense where it is not given."""


def codec_spec(given: Any) -> CodecSpec:
    """The specification that was stored as JSON, or given by a command.

    Raises:
        BadConfig: naming the field.
    """
    try:
        spec: CodecSpec = TypeAdapter(CodecSpec).validate_python(given or {})
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise BadConfig(str((wrong["loc"] or ("codec",))[-1]), wrong["msg"]) from error
    return spec


def spec_of(config: ResidualConfig | QuantizerConfig) -> dict[str, Any]:
    """The specification of a codec of codewords, as it is stored: what a training would make it from."""
    spec: CodecSpec
    if isinstance(config, QuantizerConfig):
        spec = FaissSpec(kind="faiss", factory=config.factory)
    else:
        size = config.steps + config.error_byte
        spec = ResidualSpec(kind="residual", bytes=size, beam=config.beam)
    return spec.model_dump(mode="json")


class TrainingSpec(BaseModel):
    """How long to train."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(
        20, ge=1, le=10_000, description="Passes over the vectors, at most; residual and faiss have none"
    )
    learning_rate: float = Field(
        2e-3, gt=0, le=1, description="Adam's, falling to 0; residual and faiss have their own"
    )
    minutes: float | None = Field(
        None, gt=0, le=10_080, description="Ends training after this long; FAISS's has to be done by then"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Same seed, same vectors: same codec")

    def config(self) -> TrainingConfig:
        """The training loop's configuration."""
        return TrainingConfig(
            epochs=self.epochs, learning_rate=self.learning_rate, minutes=self.minutes, seed=self.seed
        )
