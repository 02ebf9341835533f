"""What a code of few bytes keeps of vectors, measured alike whoever made it. Knows no files and no table."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.codec import Codec
from models.error_byte import farther
from models.evaluation import exact_neighbours
from models.metric import Metric, Vectors

BLOCK = 10_000
"""Vectors encoded at once."""
FAR = 100
"""Neighbours that are looked for."""


class Code(NamedTuple):
    """A trained code of any make."""

    encode: Callable[[Vectors], Any]
    decode: Callable[[Any], Vectors]
    code_bytes: int
    table_bytes: int
    """Of codebooks, networks and whatever else decoding needs, once for all vectors."""
    errors: Callable[[Any], NDArray[np.float32] | None] = lambda _: None
    """See Codec.errors."""

    @classmethod
    def of(cls, codec: Codec) -> "Code":
        """What a codec makes; its tables as they are saved."""
        return cls(codec.encode, codec.decode, codec.code_bytes, len(codec.to_bytes()), codec.errors)

    def total_bytes(self, n: int) -> float:
        """Bytes a vector, where n of them share the tables."""
        return self.code_bytes + self.table_bytes / n


class Kept(NamedTuple):
    """What is left of (n, D) vectors once they are codes."""

    codes: list[Any]
    """In blocks."""
    decoded: Vectors
    """(n, D)"""
    rows: NDArray[np.int64]
    """(q, 100) nearest to each query by the codes' own scores, all of which are looked at; best first."""
    error: float
    """Squared, in units of the variance."""
    encode_seconds: float


def kept(code: Code, vectors: Vectors, queries: Vectors, metric: Metric) -> Kept:
    """Encodes (n, D) vectors, prepared for the metric, decodes and ranks them for (q, D) queries."""
    began = time.perf_counter()
    codes = [code.encode(vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)]
    seconds = time.perf_counter() - began
    decoded = np.concatenate([np.asarray(code.decode(part), np.float32) for part in codes])
    told = [code.errors(part) for part in codes]
    errors = np.concatenate([part for part in told if part is not None]) if told and told[0] is not None else None
    # Under cosine this puts decoded vectors back on the sphere.
    rows = exact_neighbours(*farther(decoded, queries, errors), FAR, metric).rows
    variance = float(np.square(vectors - vectors.mean(axis=0)).sum(axis=1).mean())
    error = float(np.square(vectors - decoded).sum(axis=1).mean()) / max(variance, 1e-30)
    return Kept(codes, decoded, rows, error, seconds)


def factories(dim: int, size: int) -> list[str]:
    """FAISS's codes of `size` bytes at most for (n, dim) vectors, by the strings that `faiss.index_factory` takes."""
    widths = sorted({width * size for width in (4, 6, dim // size) if size <= width * size <= dim})
    names = [f"OPQ{size}_{width},PQ{size}x8" for width in widths]
    if widths:
        names.append(f"PQ{size}x8" if dim % size == 0 else f"PCA{widths[-1]},PQ{size}x8")
    space = min(256, dim)
    names.append(f"PCA{space},RQ{size}x8")
    if size <= 16:
        names.append(f"PCA{space},LSQ{size}x8")
    for bits in (1, 2):
        width = min(dim, 8 * (size - (8 if bits == 1 else 20)) // bits)
        if width >= 8:
            names.append(f"PCAR{width},RaBitQ{'' if bits == 1 else bits}")
    return [*names, f"PCAR{min(dim, 2 * size)},SQ4", f"PCAR{min(dim, size)},SQ8"]
