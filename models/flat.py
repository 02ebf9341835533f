"""The codec that compresses nothing. Knows no training."""

import json

import numpy as np

from models.codec import Codec
from models.metric import Codes, Metric, Vectors
from models.space import FloatSpace


class FlatCodec(Codec):
    """No compression: a code is the vector's own float32 bytes. What a collection has before it is trained."""

    kind = "flat"

    def __init__(self, dim: int, metric: Metric) -> None:
        self.dim = dim
        self.metric = metric
        self.code_bytes = 4 * dim

    @property
    def space(self) -> FloatSpace:
        """Plain float32."""
        return FloatSpace(self.dim)

    @property
    def ram_bytes(self) -> int:
        """Nothing is learned."""
        return 0

    def latents(self, vectors: Vectors) -> Vectors:
        """The vectors as they are compared."""
        return self.checked(vectors)

    def points(self, queries: Vectors) -> Vectors:
        """The queries as they are compared."""
        return self.checked(queries)

    def stored_latents(self, codes: Codes) -> Vectors:
        """The vectors."""
        return self.decode(codes)

    def to_bytes(self) -> bytes:
        """Nothing is learned: dimension and metric say it all."""
        return json.dumps({"kind": self.kind, "dim": self.dim, "metric": self.metric}).encode()

    def _encode(self, vectors: Vectors) -> Codes:
        return np.ascontiguousarray(vectors).view(np.uint8).reshape(len(vectors), self.code_bytes)

    def _decode(self, codes: Codes) -> Vectors:
        return np.ascontiguousarray(codes).view(np.float32).reshape(len(codes), self.dim)
