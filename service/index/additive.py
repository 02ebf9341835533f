"""Additive codes in FAISS's inverted lists, those of a first byte in one. Knows no row ids, no buckets and no SQL."""

from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Metric, Neighbours, ProductSpace, ResidualCodec, Scores, Vectors, top
from service.index.listed import ListedCodes, mapped_lists
from service.index.near import Near

LISTS = 256
DEEPER, FEWEST_FOUND = 2, 100
"""Slots that FAISS finds for each that is wanted, and the fewest: it knows lengths of codes by their shares only."""
FEWEST_SCANNED = 10_000
"""Codes looked at however small the share is: so few cost less than all the rest of a search."""
QUERY_BLOCK, BLOCK_NUMBERS = 512, 4_000_000
"""Queries handed to FAISS at once, and numbers: it asks for a query's once for each byte."""
LENGTH_BLOCK = 8_192
"""Codes whose lengths are worked out at once."""
Looked = tuple[NDArray[np.int64], NDArray[np.float32]]
FILES = INDEX, SQUARES = "index", "squares.npy"


class AdditiveIndex:
    """An immutable index over n codes of one byte a step; slot i is code i.

    FAISS's own lists of additive codes take no selector. A product quantiser over as many copies of the query as there
    are bytes, whose i-th table is the i-th codebook, adds up the same products: <q, c_1> + ... + <q, c_p>.
    """

    files = FILES

    def __init__(self, codec: Codec, codes: Codes) -> None:
        if not isinstance(codec, ResidualCodec):
            raise TypeError(f"codes of the kind {codec.kind} do not add up")
        self.codec: ResidualCodec = codec
        self._index = _filled(codec, codes)
        self._squares = codec.squares(codes)
        self._take()

    def _take(self) -> None:
        """What is known of the lists once they are there."""
        self.codes = ListedCodes(self._index, self.codec.code_bytes)
        shares = self.codec.shares
        if _keeps_lengths(self.codec):
            centroids = faiss.vector_to_array(self._index.pq.centroids).reshape(self._index.pq.M, 256, -1)
            shares = np.concatenate((shares, centroids[-1:, :, -1] / 2))
        self._shares = shares.ravel()
        """(bytes of an entry * 256,) what each adds to FAISS's product"""
        self._offsets = 256 * np.arange(len(shares))

    @classmethod
    def mapped(cls, codec: Codec, folder: Path) -> "AdditiveIndex":
        """The index in files that `write` made. Codes stay in the files: processes that map them share their pages."""
        index = cls(codec, np.empty((0, codec.code_bytes), np.uint8))
        index._index = mapped_lists(folder / INDEX)
        index._squares = np.load(folder / SQUARES, mmap_mode="r")
        index._take()
        return index

    @staticmethod
    def write(codec: Codec, blocks: Iterable[Codes], folder: Path) -> None:
        """Writes `files` over blocks of (n, code_bytes) codes, slots in their order; all codes are in RAM once."""
        index = AdditiveIndex(codec, np.concatenate([np.empty((0, codec.code_bytes), np.uint8), *blocks]))
        faiss.write_index(index._index, str(folder / INDEX))
        np.save(folder / SQUARES, index._squares)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def ram_bytes(self) -> int:
        """Bytes of the lists, with an id of eight bytes beside each code, of the codes' places and lengths, and of the
        copy of the codebooks.
        """
        listed = len(self) * (int(self._index.code_size) + 8) + 4 * int(self._index.pq.centroids.size())
        return listed + self.codes.ram_bytes + int(self._squares.nbytes)

    @property
    def mapped_bytes(self) -> int:
        """Those of them that a mapped index leaves in its files."""
        return len(self) * (int(self._index.code_size) + 8) + int(self._squares.nbytes)

    def scanned(self, live: int, share: float) -> int:
        """How many of so many live codes a search with this share looks at, about."""
        return min(live, max(FEWEST_SCANNED, round(share * len(self))))

    def search(self, queries: Vectors, k: int, live: NDArray[np.uint8], share: float = 1) -> Neighbours:
        """(q, D) queries to the best k slots of each whose bit in `live` (little-endian bitmap, n bits) is set, by the
        codec's own scores.

        A share below 1 of the codes is looked at, in the lists nearest to the query: as many live ones, so that the
        fewer are live, the more lists are. Where fewer than k are found there, the query looks into all lists.
        """
        alive = int(np.bitwise_count(live).sum())
        lists = -(-LISTS * self.scanned(alive, share) // max(1, alive))
        slots, products = self._looked(queries, k, live, lists)
        short = slots[:, min(k, alive) - 1] < 0
        if alive and lists < LISTS and short.any():
            slots[short], products[short] = self._looked(queries[short], k, live, LISTS)
        shares = self._shares[self.codes.entries(slots) + self._offsets].sum(axis=2)
        scores = self.codec.completed(queries, products, shares, self._squares[slots])
        best = top(np.where(slots < 0, np.float32(-np.inf), scores), slots, k)
        return Neighbours(np.where(np.isneginf(best.scores), -1, best.rows), best.scores)

    def near(self, queries: Vectors) -> list[Near]:
        """For each of (q, D) queries what turns (c,) slots into (c,) scores as `search` has them."""
        return [self._near(query[None]) for query in queries]

    def _near(self, query: Vectors) -> Near:
        return lambda slots: self.scores(query, slots[None])[0]

    def scores(self, queries: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(q, D) queries and (q, c) slots to the codec's (q, c) scores; -1 gets minus infinity."""
        scores = self.codec.scores(queries, self.codes[slots], self._squares[slots])
        return np.where(slots < 0, np.float32(-np.inf), scores)

    def _looked(self, queries: Vectors, k: int, live: NDArray[np.uint8], lists: int) -> Looked:
        """(q, D) queries to the (q, DEEPER k) best slots in so many lists, as FAISS ranks them, and its products."""
        faiss.omp_set_num_threads(1)  # it holds for the calling thread only; searches use the cores side by side
        points = self.codec.points(queries)
        bitmap = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(live))
        parameters = faiss.SearchParametersIVF(sel=bitmap, nprobe=lists)
        wide = max(1, min(len(self), max(FEWEST_FOUND, DEEPER * k)))
        size = max(1, min(QUERY_BLOCK, BLOCK_NUMBERS // self._index.d))
        copies = self._index.pq.M
        found = [
            self._index.search(np.tile(points[start : start + size], copies), wide, params=parameters)
            for start in range(0, len(points), size)
        ]
        slots = np.concatenate([slots for _, slots in found])
        return slots, np.where(slots < 0, np.float32(0), np.concatenate([products for products, _ in found]))


def _filled(codec: ResidualCodec, codes: Codes) -> faiss.IndexIVFPQ:
    """The lists over (n, M) codes, each followed by its length where that is kept."""
    index = _empty(codec)
    if len(codes):
        stored = np.pad(codes, ((0, 0), (0, int(_keeps_lengths(codec)))))
        if _keeps_lengths(codec):
            _set_lengths(index, codec, stored)
        index.add_sa_codes(np.hstack((codes[:, :1], stored)), np.arange(len(codes)))
    return index


def _keeps_lengths(codec: Codec) -> bool:
    """Under cosine lengths hardly differ, so that their shares are enough; under ip they do not count."""
    return codec.metric is Metric.L2


def _set_lengths(index: faiss.IndexIVFPQ, codec: ResidualCodec, stored: Codes) -> None:
    """The last byte of each code picks what the shares of |z|^2 of its others leave out of that."""
    centroids = faiss.vector_to_array(index.pq.centroids).reshape(index.pq.M, 256, -1)
    columns = np.arange(codec.code_bytes)
    left = np.empty(len(stored), np.float32)
    for start in range(0, len(stored), LENGTH_BLOCK):
        block = stored[start : start + LENGTH_BLOCK, :-1]
        z = codec.stored_latents(block)
        shares = centroids[columns, block, -1].sum(axis=1)
        left[start : start + LENGTH_BLOCK] = np.einsum("nd,nd->n", z, z) - shares
    grid = np.quantile(left, (np.arange(256) + 0.5) / 256).astype(np.float32)
    stored[:, -1] = np.searchsorted((grid[1:] + grid[:-1]) / 2, left)
    centroids[-1, :, -1] = grid
    faiss.copy_array_to_vector(centroids.ravel(), index.pq.centroids)


def _empty(codec: ResidualCodec) -> faiss.IndexIVFPQ:
    """A list for each first codeword; the nearest is the one with the best score."""
    space: ProductSpace = codec.space
    lengths = np.zeros((int(_keeps_lengths(codec)), *space.centroids.shape[1:]), np.float32)
    words = np.ascontiguousarray(np.concatenate((space.centroids, lengths)), np.float32)
    copies, _, width = words.shape
    firsts = faiss.IndexFlat(width, faiss.METRIC_INNER_PRODUCT)
    firsts.add(words[0])
    one = faiss.RemapDimensionsTransform(copies * width, width, False)  # the first of the copies
    nearest = faiss.IndexPreTransform(one, firsts)
    index = faiss.IndexIVFPQ(nearest, copies * width, LISTS, copies, 8, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    index.do_polysemous_training = False
    faiss.copy_array_to_vector(words.ravel(), index.pq.centroids)
    index.is_trained = True
    return index
