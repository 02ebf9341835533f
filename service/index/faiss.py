"""Codes in a FAISS index: the shortlist of a whole segment. Knows no row ids, no buckets and no SQL.

The index holds the only copy of the codes in RAM; `codes` looks into it.
"""

from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, FloatSpace, Metric, Neighbours, ProductSpace, ScalarSpace, Scores, Vectors
from service.index.listed import mapped_lists
from service.index.near import Near

INDEX = "index"
SCALAR_TYPES = {
    4: faiss.ScalarQuantizer.QT_4bit,
    8: faiss.ScalarQuantizer.QT_8bit,
    16: faiss.ScalarQuantizer.QT_fp16,
}


class FaissIndex:
    """An immutable flat index over n codes; slot i is code i."""

    files = (INDEX,)

    def __init__(self, codec: Codec, codes: Codes) -> None:
        self.codec = codec
        self._index = _filled(codec, [codes])
        self.codes = self._stored()

    @classmethod
    def mapped(cls, codec: Codec, folder: Path) -> "FaissIndex":
        """The index in a file that `write` made. Codes stay in the file: processes that map it share its pages."""
        index = object.__new__(cls)
        index.codec = codec
        path = folder / INDEX  # FAISS maps inverted lists one way, flat codes another
        listed = isinstance(codec.space, ProductSpace)
        index._index = mapped_lists(path) if listed else faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        index.codes = index._stored()
        return index

    @staticmethod
    def write(codec: Codec, blocks: Iterable[Codes], folder: Path) -> None:
        """Writes `files` over blocks of (n, code_bytes) codes, slots in their order; all codes are in RAM once."""
        faiss.write_index(_filled(codec, blocks), str(folder / INDEX))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def ram_bytes(self) -> int:
        """Bytes that the codes take, the slots that an inverted list repeats, and the index's copy of the codebooks."""
        if not isinstance(self._index, faiss.IndexIVFPQ):
            return len(self) * self.codec.code_bytes
        return len(self) * (int(self._index.code_size) + 8) + 4 * int(self._index.pq.centroids.size())

    @property
    def mapped_bytes(self) -> int:
        """Those of them that a mapped index leaves in its file."""
        return self.ram_bytes

    def scanned(self, live: int, share: float) -> int:
        """How many of so many live codes a search looks at: all, whatever the share."""
        del share
        return live

    def search(self, queries: Vectors, k: int, live: NDArray[np.uint8], share: float = 1) -> Neighbours:
        """(q, D) queries to the best k slots of each whose bit in `live` (little-endian bitmap, n bits) is set.

        Scores compare latents, not vectors: they order a shortlist and mean nothing else.
        """
        del share  # every code is looked at
        faiss.omp_set_num_threads(1)  # it holds for the calling thread only; searches use the cores side by side
        bitmap = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(live))
        listed = isinstance(self._index, faiss.IndexIVF)
        parameters = faiss.SearchParametersIVF(sel=bitmap) if listed else faiss.SearchParameters(sel=bitmap)
        scores, slots = self._index.search(self.codec.points(queries), k, params=parameters)
        if self._index.metric_type == faiss.METRIC_L2:
            scores = -scores
        return Neighbours(slots, np.where(slots < 0, -np.inf, scores).astype(np.float32))

    def near(self, queries: Vectors) -> list[Near]:
        """For each of (q, D) queries what turns (c,) slots into (c,) scores as `search` has them."""
        return [self._near(point) for point in self.codec.points(queries)]

    def _near(self, point: NDArray[np.float32]) -> Near:
        space = self.codec.space
        if not isinstance(space, ProductSpace):
            return lambda slots: self.codec.point_scores(point, self.codec.stored_latents(self.codes[slots]))
        # What each value of each byte adds to the score, so that a code is as many additions as it has bytes.
        parts = point.reshape(len(space.centroids), -1, 1)
        shares = np.matmul(space.centroids, parts)[:, :, 0]
        if self.codec.metric is not Metric.IP:
            shares = 2 * shares - np.einsum("mkw,mkw->mk", space.centroids, space.centroids) - (parts**2).sum(axis=1)

        def near(slots: NDArray[np.int64]) -> Scores:
            scores = np.zeros(len(slots), np.float32)
            for share, column in zip(shares, np.ascontiguousarray(self.codes[slots].T), strict=True):
                scores += share.take(column)
            return scores

        return near

    def scores(self, queries: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(q, D) queries and (q, c) slots to the codec's (q, c) scores; -1 gets minus infinity."""
        return np.where(slots < 0, np.float32(-np.inf), self.codec.scores(queries, self.codes[slots]))

    def _stored(self) -> Codes:
        """(n, code_bytes), a view into the index: who holds it must hold this object too."""
        if not self._index.ntotal:
            return np.empty((0, self.codec.code_bytes), np.uint8)
        start = (
            self._index.invlists.get_codes(0) if isinstance(self._index, faiss.IndexIVF) else self._index.codes.data()
        )
        codes: Codes = faiss.rev_swig_ptr(start, len(self) * self.codec.code_bytes)
        return codes.reshape(len(self), self.codec.code_bytes)


def _filled(codec: Codec, blocks: Iterable[Codes]) -> faiss.Index:
    """The index over blocks of (n, code_bytes) codes."""
    index = _empty_index(codec)
    for codes in blocks:
        if len(codes):
            index.add_sa_codes(codes)
    return index


def _empty_index(codec: Codec) -> faiss.Index:
    """The index that reads this codec's bytes as they are."""
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
        return _product_index(space.centroids, metric)
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
