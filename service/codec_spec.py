"""What a user asks of a codec, as it is sent, stored with a collection and handed to a training."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models import Corruption, CorruptionKind, DenseConfig, LatentType, TrainingConfig


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


class CodecSpec(BaseModel):
    """A dense autoencoder: how many bytes, and how it is kept honest."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["dense"] = "dense"
    bytes: int = Field(
        64, ge=1, le=65_536, description="Bytes of a code, at most; latents and latent_type follow from it"
    )
    latents: int | None = Field(None, ge=1, le=65_536, description="Numbers a vector is reduced to, instead of `bytes`")
    latent_type: LatentType | None = Field(
        None, description="How each latent is stored; int4 where only `latents` is given"
    )
    hidden: list[int] = Field(
        [], max_length=4, description="Widths of the encoder's hidden layers; none makes it linear"
    )
    decoder_hidden: list[int] = Field([1024], max_length=4, description="Widths of the decoder's hidden layers")
    corruption: CorruptionSpec = CorruptionSpec()

    def config(self, dim: int) -> DenseConfig:
        """The autoencoder for (D,) vectors.

        Raises:
            BadConfig: naming the field.
        """
        corruption = Corruption(self.corruption.kind, self.corruption.level)
        hidden, decoder_hidden = tuple(self.hidden), tuple(self.decoder_hidden)
        if self.latents is None and self.latent_type is None:
            return DenseConfig.for_bytes(
                dim, self.bytes, hidden=hidden, decoder_hidden=decoder_hidden, corruption=corruption
            )
        latent_type = self.latent_type or LatentType.INT4
        latents = self.latents or max(1, min(dim, 8 * self.bytes // latent_type.bits))
        return DenseConfig(latents, latent_type, hidden, decoder_hidden, corruption)


class TrainingSpec(BaseModel):
    """How long to train."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the vectors, at most")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Adam's, falling to 0")
    minutes: float | None = Field(None, gt=0, le=10_080, description="Ends training after this long")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Same seed, same vectors: same codec")

    def config(self) -> TrainingConfig:
        """The training loop's configuration."""
        return TrainingConfig(
            epochs=self.epochs, learning_rate=self.learning_rate, minutes=self.minutes, seed=self.seed
        )
