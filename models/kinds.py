"""Every kind of codec by name: made, trained, and read back. Knows no architecture's insides.

What imports torch is imported by the kind that needs it: a FlatCodec or ResidualCodec is read and searched without.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from models.codec import Codec
from models.configs import BinaryConfig, DenseConfig, ResidualConfig, SparseConfig, VariationalConfig
from models.errors import DamagedCodec
from models.factory import QuantizerConfig
from models.metric import Metric, Vectors
from models.residual_codec import ResidualCodec
from models.saving import loaded
from models.training_config import TrainingConfig

if TYPE_CHECKING:
    from models.training import Progress, TrainingRun

CodecConfig = DenseConfig | VariationalConfig | SparseConfig | BinaryConfig | ResidualConfig | QuantizerConfig


class Kind(NamedTuple):
    """What an architecture is configured by, and where it and its codec are."""

    config: type[Any]
    architecture_at: str
    codec_at: str = "models.learned:LearnedCodec"

    @property
    def architecture(self) -> Any:
        """Called with a dimension and a configuration, it makes an Autoencoder."""
        return _imported(self.architecture_at)

    @property
    def codec(self) -> Any:
        """The class of LearnedCodec that such an autoencoder becomes."""
        return _imported(self.codec_at)


KINDS: dict[str, Kind] = {
    "dense": Kind(DenseConfig, "models.dense:DenseAutoencoder"),
    "variational": Kind(VariationalConfig, "models.variational:VariationalAutoencoder"),
    "sparse": Kind(SparseConfig, "models.sparse:SparseAutoencoder", "models.sparse_codec:SparseCodec"),
    "binary": Kind(BinaryConfig, "models.binary:BinaryAutoencoder", "models.binary_codec:BinaryCodec"),
    "residual": Kind(ResidualConfig, "models.residual:ResidualAutoencoder"),
    "faiss": Kind(QuantizerConfig, "models.quantizers:quantizer"),
}


def kind_of(config: CodecConfig) -> Kind:
    """The kind that a configuration is of."""
    return next(kind for kind in KINDS.values() if kind.config is type(config))


class Fitted(NamedTuple):
    """A trained codec and how its training went."""

    codec: Codec
    run: "TrainingRun"


def fit(
    config: CodecConfig,
    vectors: Vectors,
    metric: Metric,
    training: TrainingConfig,
    *,
    progress: "Progress | None" = None,
    checkpoint: Path | None = None,
) -> Fitted:
    """Trains a codec of the configuration's kind on (n, D) float32 vectors, prepared for the metric.

    Raises:
        TooFewVectors, TrainingStopped: see `train`.
    """
    from models.quantizer_training import train_quantizer
    from models.residual_training import train_residual
    from models.training import train

    kind = kind_of(config)
    model = kind.architecture(vectors.shape[1], config)
    if isinstance(config, QuantizerConfig):
        run = train_quantizer(model, vectors, metric, training, progress=progress)
    elif isinstance(config, ResidualConfig):  # its codebooks are no weights that a gradient descends
        run = train_residual(model, vectors, metric, training, progress=progress, checkpoint=checkpoint)
    else:
        run = train(model, vectors, training, progress=progress, checkpoint=checkpoint)
    return Fitted(ResidualCodec.of(model, metric) if additive(config) else kind.codec(model, metric), run)


def load_codec(data: bytes) -> Codec:
    """The codec that `to_bytes` wrote; its codes are bit for bit the same.

    Raises:
        DamagedCodec: cut short, altered, of another format or of an unknown kind.
    """
    about, tensors = loaded(data)
    try:
        kind, dim, metric = KINDS[about["kind"]], about["dim"], Metric(about["metric"])
        config = kind.config.from_dict(about["config"])
        if additive(config):
            return ResidualCodec(config, dim, metric, tensors)
        codec: Codec = kind.codec.restored(kind.architecture(dim, config), metric, tensors)
        return codec
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, DamagedCodec):
            raise
        raise DamagedCodec(f"the codec's description is not one: {error}") from error


def additive(config: CodecConfig) -> TypeGuard[ResidualConfig | QuantizerConfig]:
    """FAISS's residual quantiser is coded and searched as the residual autoencoder is."""
    return isinstance(config, ResidualConfig) or (isinstance(config, QuantizerConfig) and config.additive)


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)
