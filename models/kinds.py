"""Every kind of codec by name: made, trained, and read back. Knows no architecture's insides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from models.autoencoder import Autoencoder
from models.binary import BinaryAutoencoder, BinaryConfig
from models.binary_codec import BinaryCodec
from models.codec import Codec
from models.dense import DenseAutoencoder, DenseConfig
from models.errors import DamagedCodec
from models.learned import LearnedCodec
from models.metric import Metric, Vectors
from models.quantizer_training import train_quantizer
from models.quantizers import Quantizer, QuantizerConfig, ResidualQuantizer, quantizer
from models.residual import ResidualAutoencoder, ResidualConfig
from models.residual_codec import ResidualCodec
from models.residual_training import train_residual
from models.saving import loaded
from models.sparse import SparseAutoencoder, SparseConfig
from models.sparse_codec import SparseCodec
from models.training import Progress, TrainingConfig, TrainingRun, train
from models.variational import VariationalAutoencoder, VariationalConfig

CodecConfig = DenseConfig | VariationalConfig | SparseConfig | BinaryConfig | ResidualConfig | QuantizerConfig


class Kind(NamedTuple):
    """An architecture and what it is configured by."""

    architecture: Callable[[int, Any], Autoencoder]
    config: type[Any]
    codec: type[LearnedCodec] = LearnedCodec


KINDS: dict[str, Kind] = {
    "dense": Kind(DenseAutoencoder, DenseConfig),
    "variational": Kind(VariationalAutoencoder, VariationalConfig),
    "sparse": Kind(SparseAutoencoder, SparseConfig, SparseCodec),
    "binary": Kind(BinaryAutoencoder, BinaryConfig, BinaryCodec),
    "residual": Kind(ResidualAutoencoder, ResidualConfig, ResidualCodec),
    "faiss": Kind(quantizer, QuantizerConfig),
}


def kind_of(config: CodecConfig) -> Kind:
    """The kind that a configuration is of."""
    return next(kind for kind in KINDS.values() if kind.config is type(config))


class Fitted(NamedTuple):
    """A trained codec and how its training went."""

    codec: Codec
    run: TrainingRun


def fit(
    config: CodecConfig,
    vectors: Vectors,
    metric: Metric,
    training: TrainingConfig,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Fitted:
    """Trains a codec of the configuration's kind on (n, D) float32 vectors, prepared for the metric.

    Raises:
        TooFewVectors, TrainingStopped: see `train`.
    """
    kind = kind_of(config)
    model = kind.architecture(vectors.shape[1], config)
    if isinstance(model, Quantizer | ResidualQuantizer):
        run = train_quantizer(model, vectors, metric, training, progress=progress)
    elif isinstance(model, ResidualAutoencoder):  # its codebooks are no weights that a gradient descends
        run = train_residual(model, vectors, metric, training, progress=progress, checkpoint=checkpoint)
    else:
        run = train(model, vectors, training, progress=progress, checkpoint=checkpoint)
    return Fitted(_codec(kind, model)(model, metric), run)


def load_codec(data: bytes) -> Codec:
    """The codec that `to_bytes` wrote; its codes are bit for bit the same.

    Raises:
        DamagedCodec: cut short, altered, of another format or of an unknown kind.
    """
    about, tensors = loaded(data)
    try:
        kind = KINDS[about["kind"]]
        model = kind.architecture(about["dim"], kind.config.from_dict(about["config"]))
        return _codec(kind, model).restored(model, Metric(about["metric"]), tensors)
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, DamagedCodec):
            raise
        raise DamagedCodec(f"the codec's description is not one: {error}") from error


def _codec(kind: Kind, model: Any) -> type[LearnedCodec]:
    """FAISS's residual quantiser is coded and searched as the residual autoencoder is."""
    return ResidualCodec if isinstance(model, ResidualAutoencoder) else kind.codec
