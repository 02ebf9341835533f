"""Trained autoencoders that keep a vector in a few bytes. Knows no SQL, no HTTP and nothing of the service.

What needs torch is imported when it is first asked for: whoever only searches codes does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models.codec import Codec
from models.comparison import Code, Kept, factories, kept
from models.configs import (
    MOST_STEPS,
    BinaryConfig,
    DenseConfig,
    LatentType,
    ResidualConfig,
    SparseConfig,
    Sparsity,
    VariationalConfig,
    described,
)
from models.corruption import Corruption, CorruptionKind
from models.error_byte import farther
from models.errors import (
    BadCodes,
    BadConfig,
    BadVectors,
    CodecError,
    DamagedCodec,
    TooFewVectors,
    TooLittleTime,
    TrainingStopped,
)
from models.evaluation import (
    Estimate,
    Neighbours,
    estimated,
    exact_neighbours,
    fewest_draws,
    interval,
    merged,
    recall,
    top,
)
from models.exhaustive import near_rows
from models.factory import QuantizerConfig
from models.flat import FlatCodec
from models.kinds import CodecConfig, Fitted, fit, kind_of, load_codec
from models.metric import (
    Codes,
    Metric,
    Scores,
    Vectors,
    decoded_scores,
    normalized,
    paired_scores,
    prepared,
    score_matrix,
)
from models.prefix import PREFIXED, cut, cut_codes, cut_config
from models.residual_codec import ResidualCodec
from models.space import FloatSpace, ProductSpace, ScalarSpace, Space, SparseSpace
from models.spread import spread
from models.training_config import TrainingConfig

if TYPE_CHECKING:
    from models.binary import BinaryAutoencoder
    from models.checkpoint import Epoch
    from models.dense import DenseAutoencoder
    from models.faiss_codes import faiss_code
    from models.learned import LearnedCodec
    from models.portrait import Portrait, can_draw
    from models.residual import ResidualAutoencoder
    from models.residual_training import vectors_within
    from models.sparse import SparseAutoencoder
    from models.sparse_codec import Contributions, SparseCodec
    from models.training import TrainingRun, train
    from models.variational import VariationalAutoencoder

LATER = {
    "BinaryAutoencoder": "binary",
    "Contributions": "sparse_codec",
    "DenseAutoencoder": "dense",
    "Epoch": "checkpoint",
    "LearnedCodec": "learned",
    "Portrait": "portrait",
    "ResidualAutoencoder": "residual",
    "SparseAutoencoder": "sparse",
    "SparseCodec": "sparse_codec",
    "TrainingRun": "training",
    "VariationalAutoencoder": "variational",
    "can_draw": "portrait",
    "faiss_code": "faiss_codes",
    "train": "training",
    "vectors_within": "residual_training",
}
"""The modules of what is imported when it is first asked for."""

__all__ = [
    "MOST_STEPS",
    "PREFIXED",
    "BadCodes",
    "BadConfig",
    "BadVectors",
    "BinaryAutoencoder",
    "BinaryConfig",
    "Code",
    "Codec",
    "CodecConfig",
    "CodecError",
    "Codes",
    "Contributions",
    "Corruption",
    "CorruptionKind",
    "DamagedCodec",
    "DenseAutoencoder",
    "DenseConfig",
    "Epoch",
    "Estimate",
    "Fitted",
    "FlatCodec",
    "FloatSpace",
    "Kept",
    "LatentType",
    "LearnedCodec",
    "Metric",
    "Neighbours",
    "Portrait",
    "ProductSpace",
    "QuantizerConfig",
    "ResidualAutoencoder",
    "ResidualCodec",
    "ResidualConfig",
    "ScalarSpace",
    "Scores",
    "Space",
    "SparseAutoencoder",
    "SparseCodec",
    "SparseConfig",
    "SparseSpace",
    "Sparsity",
    "TooFewVectors",
    "TooLittleTime",
    "TrainingConfig",
    "TrainingRun",
    "TrainingStopped",
    "VariationalAutoencoder",
    "VariationalConfig",
    "Vectors",
    "can_draw",
    "cut",
    "cut_codes",
    "cut_config",
    "decoded_scores",
    "described",
    "estimated",
    "exact_neighbours",
    "factories",
    "faiss_code",
    "farther",
    "fewest_draws",
    "fit",
    "interval",
    "kept",
    "kind_of",
    "load_codec",
    "merged",
    "near_rows",
    "normalized",
    "paired_scores",
    "prepared",
    "recall",
    "score_matrix",
    "spread",
    "top",
    "train",
    "vectors_within",
]


def __getattr__(name: str) -> Any:
    """What is in `LATER` (PEP 562)."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"models.{LATER[name]}"), name)
