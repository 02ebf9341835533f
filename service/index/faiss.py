"""Codes in a FAISS index: the shortlist of a whole segment. Knows no row ids, no buckets and no SQL.

The index holds the only copy of the codes in RAM; `codes` looks into it.
"""

from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, FloatSpace, Metric, Neighbours, ProductSpace, ScalarSpace, Scores, Vectors

QUERY_BLOCK, BLOCK_NUMBERS = 512, 4_000_000
"""Queries handed to FAISS at once, and numbers: an additive code asks for a query's once for each of its bytes."""
LENGTH_BLOCK = 8_192
"""Codes whose lengths are worked out at once."""
SCALAR_TYPES = {
    4: faiss.ScalarQuantizer.QT_4bit,
    8: faiss.ScalarQuantizer.QT_8bit,
    16: faiss.ScalarQuantizer.QT_fp16,
}


class FaissIndex:
    """An immutable flat index over n codes; slot i is code i."""

    def __init__(self, codec: Codec, codes: Codes) -> None:
        self.codec = codec
        self._index = _filled(codec, [codes])
        self.codes = self._stored()

    @classmethod
    def mapped(cls, codec: Codec, path: Path) -> "FaissIndex":
        """The index in a file that `write` made. Codes stay in the file: processes that map it share its pages."""
        index = object.__new__(cls)
        index.codec = codec
        listed = isinstance(codec.space, ProductSpace)  # FAISS maps inverted lists one way, flat codes another
        index._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if listed else faiss.IO_FLAG_MMAP_IFC)
        index.codes = index._stored()
        return index

    @staticmethod
    def write(codec: Codec, blocks: Iterable[Codes], path: Path) -> None:
        """Writes the index over blocks of (n, code_bytes) codes, slots in their order; all codes are in RAM once."""
        faiss.write_index(_filled(codec, blocks), str(path))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def ram_bytes(self) -> int:
        """Bytes that the codes take, the slots that an inverted list repeats, and the index's copy of the codebooks."""
        if not isinstance(self._index, faiss.IndexIVFPQ):
            return len(self) * self.codec.code_bytes
        return len(self) * (int(self._index.code_size) + 8) + 4 * int(self._index.pq.centroids.size())

    def search(self, queries: Vectors, k: int, live: NDArray[np.uint8]) -> Neighbours:
        """(q, D) queries to the best k slots of each whose bit in `live` (little-endian bitmap, n bits) is set.

        Scores compare latents, not vectors: they order a shortlist and mean nothing else.
        """
        faiss.omp_set_num_threads(1)  # it holds for the calling thread only; searches use the cores side by side
        points = self.codec.points(queries)
        bitmap = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(live))
        listed = isinstance(self._index, faiss.IndexIVF)
        parameters = faiss.SearchParametersIVF(sel=bitmap) if listed else faiss.SearchParameters(sel=bitmap)
        size = max(1, min(QUERY_BLOCK, BLOCK_NUMBERS // self._index.d))
        found = [
            self._index.search(self._asked(points[start : start + size]), k, params=parameters)
            for start in range(0, len(points), size)
        ]
        scores = np.concatenate([part[0] for part in found])
        slots = np.concatenate([part[1] for part in found])
        if self._index.metric_type == faiss.METRIC_L2:
            scores = -scores
        return Neighbours(slots, np.where(slots < 0, -np.inf, scores).astype(np.float32))

    def scores(self, points: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(q, m) points and (c,) slots to (q, c) scores as `search` has them, an additive code's length being exact."""
        stored = self.codec.stored_latents(self.codes[slots])
        return np.stack([self.codec.point_scores(point, stored) for point in points])

    def _asked(self, points: Vectors) -> Vectors:
        """Points as FAISS compares them: every byte of an additive code is multiplied with the whole of one."""
        space = self.codec.space
        return np.tile(points, self._index.code_size) if isinstance(space, ProductSpace) and space.additive else points

    def _stored(self) -> Codes:
        """(n, code_bytes), a view into the index: who holds it must hold this object too."""
        return _bytes_of(self._index)[:, : self.codec.code_bytes]


def _filled(codec: Codec, blocks: Iterable[Codes]) -> faiss.Index:
    """The index over blocks of (n, code_bytes) codes."""
    index = _empty_index(codec)
    for codes in blocks:
        if len(codes):
            index.add_sa_codes(np.pad(codes, ((0, 0), (0, index.code_size - codec.code_bytes))))
    if _keeps_lengths(codec) and index.ntotal:
        _set_lengths(index, codec)
    return index


def _bytes_of(index: faiss.Index) -> Codes:
    """(n, code_size), a view into the index."""
    if not index.ntotal:
        return np.empty((0, index.code_size), np.uint8)
    start = index.invlists.get_codes(0) if isinstance(index, faiss.IndexIVF) else index.codes.data()
    codes: Codes = faiss.rev_swig_ptr(start, index.ntotal * index.code_size)
    return codes.reshape(index.ntotal, index.code_size)


def _keeps_lengths(codec: Codec) -> bool:
    """Under cosine lengths hardly differ, so that their shares are enough; under ip they do not count."""
    return isinstance(codec.space, ProductSpace) and codec.space.additive and codec.metric is Metric.L2


def _set_lengths(index: faiss.Index, codec: Codec) -> None:
    """The last byte of each code picks what the shares of |z|^2 of its others leave out of that."""
    centroids = faiss.vector_to_array(index.pq.centroids).reshape(index.pq.M, 256, -1)
    stored = _bytes_of(index)
    left = np.empty(len(stored), np.float32)
    for start in range(0, len(stored), LENGTH_BLOCK):
        block = np.ascontiguousarray(stored[start : start + LENGTH_BLOCK, :-1])
        latents = codec.stored_latents(block)
        shares = centroids[np.arange(codec.code_bytes), block, -1].sum(axis=1)
        left[start : start + LENGTH_BLOCK] = np.einsum("nd,nd->n", latents, latents) - shares
    grid = np.quantile(left, (np.arange(256) + 0.5) / 256).astype(np.float32)
    stored[:, -1] = np.searchsorted((grid[1:] + grid[:-1]) / 2, left)
    centroids[-1, :, -1] = grid
    faiss.copy_array_to_vector(centroids.ravel(), index.pq.centroids)


def _empty_index(codec: Codec) -> faiss.Index:
    """The index that reads this codec's bytes as they are, and after them a length where it keeps one."""
    # Unit vectors have the same order under both metrics; the latents of unit vectors are nearly so.
    metric = faiss.METRIC_INNER_PRODUCT if codec.metric is Metric.IP else faiss.METRIC_L2
    space = codec.space
    if isinstance(space, FloatSpace):
        return faiss.IndexFlat(space.dim, metric)
    if isinstance(space, ScalarSpace):
        index = faiss.IndexScalarQuantizer(len(space.low), SCALAR_TYPES[space.bits], metric)
        if space.bits != 16:
            faiss.copy_array_to_vector(np.concatenate((space.low, space.width)), index.sq.trained)
        index.is_trained = True
        return index
    if isinstance(space, ProductSpace):
        lengths = np.zeros((int(_keeps_lengths(codec)), *space.centroids.shape[1:]), np.float32)
        centroids = np.concatenate((space.centroids, lengths))
        return _product_index(centroids, faiss.METRIC_INNER_PRODUCT if space.additive else metric)
    raise TypeError(f"FAISS reads no {type(space).__name__}")


def _product_index(centroids: NDArray[np.float32], metric: int) -> faiss.Index:
    """One inverted list over all codes: IndexPQ would scan as fast, but takes no selector."""
    m, _, width = centroids.shape
    coarse = faiss.IndexFlat(m * width, metric)
    coarse.add(np.zeros((1, m * width), np.float32))
    index = faiss.IndexIVFPQ(coarse, m * width, 1, m, 8, metric)
    index.by_residual = False
    index.do_polysemous_training = False
    faiss.copy_array_to_vector(np.ascontiguousarray(centroids, np.float32).ravel(), index.pq.centroids)
    index.is_trained = True
    return index
