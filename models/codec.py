"""A codec behind numpy: vectors to codes of a few bytes and back. Knows no index, no SQL and no HTTP."""

import hashlib
from abc import ABC, abstractmethod
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.errors import BadCodes, BadVectors
from models.metric import Codes, Metric, Scores, Vectors, paired_scores, prepared
from models.space import Space

BLOCK = 8_192
"""Vectors encoded or decoded at once, so that memory does not grow with their number."""
WIDEST_BUCKET_KEY = 16
"""Bits of the longest bucket key; an index uses as many of them as suit its size."""
TABLES = 4
"""Hash tables a codec has keys for: each costs 4 bytes a vector, and the eighth found two points of recall more."""


@cache
def rotations(r: int) -> NDArray[np.float32]:
    """(r, TABLES * WIDEST_BUCKET_KEY) unit normals, orthogonal within a table where r allows; always the same."""
    rng = np.random.default_rng(r)
    tables = []
    for _ in range(TABLES):
        normals = rng.standard_normal((r, WIDEST_BUCKET_KEY))
        tables.append(np.linalg.qr(normals)[0] if r >= WIDEST_BUCKET_KEY else normals / np.linalg.norm(normals, axis=0))
    return np.ascontiguousarray(np.hstack(tables), np.float32)


def cheapest(costs: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Places of the `most` least of (n,) costs, the least first."""
    if most >= len(costs):
        return np.argsort(costs)
    nearest = np.argpartition(costs, most)[:most]
    return nearest[np.argsort(costs[nearest])]


def _sums(margins: NDArray[np.float32]) -> NDArray[np.float32]:
    """(t, b) margins to (t, 2^b): of each key the squares of those whose sign is not its bit's, added up."""
    costs = np.zeros((len(margins), 1), np.float32)
    for margin in margins.T[:, :, None]:
        clear, set_ = np.maximum(margin, 0) ** 2, np.minimum(margin, 0) ** 2
        costs = np.concatenate((costs + clear, costs + set_), axis=1)
    return costs


@cache
def _under(rows: int, columns: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places (i, j) of a matrix with (i + 1) (j + 1) <= most."""
    ranks = np.arange(1, rows + 1)[:, None] * np.arange(1, columns + 1)
    i, j = np.nonzero(ranks <= most)
    return i, j


class Codec(ABC):
    """Encodes (n, D) float32 to (n, code_bytes) uint8 and back; the same vector always gives the same code.

    A vector's code does not depend on the batch it came in. Under cosine, vectors are brought to length 1 first.
    """

    kind: ClassVar[str]
    dim: int
    metric: Metric
    code_bytes: int
    threads: int = 1
    """That a kind with much to compute may take for encoding: a job sets it, while requests share the cores already."""
    device: str = "cpu"
    """Where an autoencoder encodes, and true neighbours are looked for: "auto", which a job sets, is CUDA where there
    is one. Neighbours are the same, and codes but for one of many thousands, whose sums round to the other side."""

    def encode(self, vectors: Vectors) -> Codes:
        """(n, D) float32 to (n, code_bytes) uint8.

        Raises:
            BadVectors: not float32, not (n, D), NaN or infinite.
        """
        vectors = self.checked(vectors)
        blocks = [self._encode(vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.code_bytes), np.uint8)

    def decode(self, codes: Codes) -> Vectors:
        """(n, code_bytes) uint8 to (n, D) float32.

        Raises:
            BadCodes: not uint8 or not (n, code_bytes).
        """
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != self.code_bytes:
            raise BadCodes(
                f"codes must be uint8 of shape (n, {self.code_bytes}), these are {codes.dtype} {codes.shape}"
            )
        blocks = [self._decode(codes[start : start + BLOCK]) for start in range(0, len(codes), BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.dim), np.float32)

    def scores(self, queries: Vectors, codes: Codes) -> Scores:
        """The codec's own score of each query's candidates: (q, D) and (q, c, code_bytes) to (q, c).

        Under cosine this puts the decoded vector back on the sphere: <q, x_hat> / (|q| |x_hat|).
        """
        q, c, width = codes.shape
        decoded = self.decode(codes.reshape(q * c, width)).reshape(q, c, self.dim)
        return paired_scores(queries, decoded, self.metric)

    def errors(self, codes: Codes) -> NDArray[np.float32] | None:
        """(n, code_bytes) codes to what scores take away beside squared distances to decoded vectors, (n,); none where
        that is nothing.
        """
        del codes
        return None

    def checked(self, vectors: Vectors) -> Vectors:
        """The vectors as they are compared; raises BadVectors where they cannot be."""
        if vectors.dtype != np.float32:
            raise BadVectors(f"vectors must be float32, these are {vectors.dtype}")
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise BadVectors(f"vectors must be of shape (n, {self.dim}), these are {vectors.shape}")
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise BadVectors(f"vector {row} holds NaN or infinity")
        return prepared(vectors, self.metric)

    @property
    @abstractmethod
    def space(self) -> Space:
        """How an index may read the bytes of a code."""

    @abstractmethod
    def latents(self, vectors: Vectors) -> Vectors:
        """(n, D) vectors to the (n, m) latents before they are stored."""

    @abstractmethod
    def points(self, queries: Vectors) -> Vectors:
        """(q, D) queries to the (q, m) points that are compared with stored latents: see `point_scores`."""

    def point_scores(self, point: Vectors, stored: Vectors) -> Scores:
        """The shortlist's score of (c, m) stored latents for one (m,) point: <p, z> under ip, else -|p - z|^2."""
        if self.metric is Metric.IP:
            return np.asarray(stored @ point, np.float32)
        differences = stored - point
        return np.asarray(-np.einsum("cm,cm->c", differences, differences), np.float32)

    @abstractmethod
    def stored_latents(self, codes: Codes) -> Vectors:
        """(n, code_bytes) codes to the (n, m) latents they stand for."""

    def bucket_axes(self, latents: Vectors) -> Vectors:
        """(n, m) latents to the (n, r) coordinates that bucket hyperplanes cut: the latents themselves, unless a codec
        has learned better ones.
        """
        return latents

    def bucket_margins(self, latents: Vectors) -> NDArray[np.float32]:
        """(n, m) latents to (n, TABLES, WIDEST_BUCKET_KEY): a bit of a key is the sign, its certainty the magnitude.

        Random hyperplanes, orthogonal within a table (Charikar 2002; Ji et al. 2012, "Super-Bit LSH").
        """
        coordinates = self.bucket_axes(latents)
        return (coordinates @ rotations(coordinates.shape[1])).reshape(len(latents), TABLES, WIDEST_BUCKET_KEY)

    def bucket_keys(self, codes: Codes, bits: int = WIDEST_BUCKET_KEY) -> NDArray[np.uint16]:
        """(n, code_bytes) codes to (n, TABLES) keys of `bits` bits, bit 0 the first margin."""
        keys = np.empty((len(codes), TABLES), np.uint16)
        weights = (1 << np.arange(bits)).astype(np.uint16)
        for start in range(0, len(codes), BLOCK):
            margins = self.bucket_margins(self.stored_latents(codes[start : start + BLOCK]))[:, :, :bits]
            keys[start : start + BLOCK] = ((margins > 0) * weights).sum(axis=2)
        return keys

    def bucket_count(self, bits: int) -> int:
        """Buckets of a table whose keys have `bits` bits: keys are below it."""
        return 1 << bits

    def bucket_costs(self, latents: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
        """(m,) latents of a query to (TABLES, buckets): the buckets in the order of their costs are those to look into.

        The cost is the sum of the squared margins of the bits in which a key is not the query's (Lv et al.,
        "Multi-Probe LSH", VLDB 2007); all 2^bits sums are formed at once, so the order is exact.
        """
        return _sums(self.bucket_margins(latents[None, :])[0, :, :bits])

    def nearest_buckets(self, latents: NDArray[np.float32], bits: int, most: int) -> NDArray[np.int64]:
        """(m,) latents of a query to the cheapest buckets of all tables together, at most so many, cheapest first.

        A bucket is table * bucket_count + key. Of equally cheap ones at the edge any are taken. Of a table's keys only
        those are looked at whose halves have ranks i and j with i j <= most: others have as many cheaper ones.
        """
        margins = self.bucket_margins(latents[None, :])[0, :, :bits]
        low = bits // 2
        first, second = _sums(margins[:, :low]), _sums(margins[:, low:])
        ranks, others = _under(first.shape[1], second.shape[1], 1 << max(0, most - 1).bit_length())
        order, other = np.argsort(first, axis=1), np.argsort(second, axis=1)
        costs = np.sort(first, axis=1).take(ranks, axis=1) + np.sort(second, axis=1).take(others, axis=1)
        nearest = cheapest(costs.ravel(), most)
        tables, places = nearest // len(ranks), nearest % len(ranks)
        keys = order[tables, ranks[places]] + (other[tables, others[places]] << low)
        return np.asarray(tables * self.bucket_count(bits) + keys, np.int64)

    def query_key(self, latents: NDArray[np.float32], bits: int) -> NDArray[np.uint16] | None:
        """(m,) latents of a query to its own key in each table, (TABLES,): those of codes lie at Hamming distances from
        it. None where a key is no string of bits.
        """
        margins = self.bucket_margins(latents[None, :])[0, :, :bits]
        return np.asarray(((margins > 0) * (1 << np.arange(bits))).sum(axis=1), np.uint16)

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The whole codec, safetensors with JSON metadata; `load_codec` reads it."""

    @property
    @abstractmethod
    def ram_bytes(self) -> int:
        """Bytes that the codec itself takes while it serves."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the saved bytes' SHA-256: equal fingerprints give equal codes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    @abstractmethod
    def _encode(self, vectors: Vectors) -> Codes: ...

    @abstractmethod
    def _decode(self, codes: Codes) -> Vectors: ...
