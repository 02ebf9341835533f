"""Trained autoencoders that keep a vector in a few bytes. Knows no SQL, no HTTP and nothing of the service."""

from models.binary import BinaryAutoencoder, BinaryConfig
from models.checkpoint import Epoch
from models.codec import Codec
from models.comparison import Code, Kept, factories, kept
from models.corruption import Corruption, CorruptionKind
from models.dense import DenseAutoencoder, DenseConfig
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
from models.evaluation import Estimate, Neighbours, estimated, exact_neighbours, interval, merged, recall, top
from models.faiss_code import faiss_code
from models.flat import FlatCodec
from models.kinds import CodecConfig, Fitted, fit, kind_of, load_codec
from models.learned import LearnedCodec
from models.metric import Codes, Metric, Scores, Vectors, normalized, paired_scores, prepared, score_matrix
from models.portrait import Portrait, can_draw
from models.quantizers import QuantizerConfig
from models.residual import MOST_STEPS, ResidualAutoencoder, ResidualConfig
from models.residual_codec import ResidualCodec
from models.scalar_code import LatentType
from models.space import FloatSpace, ProductSpace, ScalarSpace, Space, SparseSpace
from models.sparse import SparseAutoencoder, SparseConfig, Sparsity
from models.sparse_codec import Contributions, SparseCodec, decoded_scores
from models.training import TrainingConfig, TrainingRun, train
from models.variational import VariationalAutoencoder, VariationalConfig

__all__ = [
    "MOST_STEPS",
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
    "decoded_scores",
    "estimated",
    "exact_neighbours",
    "factories",
    "faiss_code",
    "fit",
    "interval",
    "kept",
    "kind_of",
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
