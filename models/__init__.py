"""Trained autoencoders that keep a vector in a few bytes. Knows no SQL, no HTTP and nothing of the service."""

from models.checkpoint import Epoch
from models.codec import Codec
from models.corruption import Corruption, CorruptionKind
from models.dense import DenseAutoencoder, DenseConfig
from models.errors import (
    BadCodes,
    BadConfig,
    BadVectors,
    CodecError,
    DamagedCodec,
    TooFewVectors,
    TrainingStopped,
)
from models.evaluation import Neighbours, exact_neighbours, merged, recall, top
from models.flat import FlatCodec
from models.kinds import CodecConfig, Fitted, fit, load_codec
from models.learned import LearnedCodec
from models.metric import Codes, Metric, Scores, Vectors, normalized, paired_scores, prepared, score_matrix
from models.scalar_code import LatentType
from models.space import FloatSpace, ProductSpace, ScalarSpace, Space, SparseSpace
from models.training import TrainingConfig, TrainingRun, train

__all__ = [
    "BadCodes",
    "BadConfig",
    "BadVectors",
    "Codec",
    "CodecConfig",
    "CodecError",
    "Codes",
    "Corruption",
    "CorruptionKind",
    "DamagedCodec",
    "DenseAutoencoder",
    "DenseConfig",
    "Epoch",
    "Fitted",
    "FlatCodec",
    "FloatSpace",
    "LatentType",
    "LearnedCodec",
    "Metric",
    "Neighbours",
    "ProductSpace",
    "ScalarSpace",
    "Scores",
    "Space",
    "SparseSpace",
    "TooFewVectors",
    "TrainingConfig",
    "TrainingRun",
    "TrainingStopped",
    "Vectors",
    "exact_neighbours",
    "fit",
    "load_codec",
    "merged",
    "normalized",
    "paired_scores",
    "prepared",
    "recall",
    "score_matrix",
    "top",
    "train",
]
