"""Additive codes in FAISS's inverted lists, those of equal leading bytes in one. Knows no row ids and no SQL."""

from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Metric, Neighbours, ResidualCodec, Scores, Vectors, top
from service.index.coarse import CODEWORDS, Coarse, Grouped
from service.index.listed import ListedCodes, mapped_lists
from service.index.near import Near

DEEPER, FEWEST_FOUND = 2, 100
"""Slots that FAISS finds for each that is wanted, and the fewest: it knows lengths of codes by their shares only."""
FEWEST_SCANNED = 10_000
"""Codes looked at however small the share is: so few cost less than all the rest of a search."""
QUERY_BLOCK = 256
"""Queries whose tables are made at once, by one look at the codebooks: 8 MB of 32 tables each."""
LIST_BYTES = 184
"""That FAISS takes for each list in RAM, its entries apart; of a mapped one less."""
LENGTH_BLOCK = 8_192
"""Codes whose lengths are worked out at once."""
Looked = tuple[NDArray[np.int64], NDArray[np.float32]]
FILES = INDEX, SQUARES = "index", "squares.npy"


class AdditiveIndex:
    """An immutable index over n codes whose bytes pick codewords that add up; slot i is code i.

    FAISS's own lists of additive codes take no selector; those of product codes do, and scanning them is adding up a
    number for each byte out of its table. So the lists are those of a product quantiser of one number a byte, which is
    handed <p, c_1>, ..., <p, c_M> of all codewords as its centroids and asked with ones. The codebooks are the codec's
    own, and a product of matrices makes the tables of many queries.
    """

    files = FILES

    def __init__(self, codec: Codec, codes: Codes, known: Scores | None = None) -> None:
        """Over (n, code_bytes) codes; `known`: (s,) squared lengths of the first, which take longest to work out."""
        if not isinstance(codec, ResidualCodec):
            raise TypeError(f"codes of the kind {codec.kind} do not add up")
        self.codec: ResidualCodec = codec
        self._lists = _filled(codec, codes)
        known = np.empty(0, np.float32) if known is None else known
        self.squares = np.concatenate((known, codec.squares(codes[len(known) :])))
        """(n,) of the codes, by slot"""
        self._take()

    def _take(self) -> None:
        """What is known of the lists once they are there."""
        self.codes = ListedCodes(self._lists, self.codec.code_bytes)
        self._coarse = Coarse(self.codec, self.codes.firsts())
        kept = faiss.vector_to_array(self._lists.pq.centroids).reshape(-1, CODEWORDS)
        self._lengths = np.concatenate((self.codec.lengths, kept[self.codec.code_bytes :]))
        """(bytes of an entry, 256) what each adds to |z|^2"""
        shares = np.concatenate((self.codec.shares, kept[self.codec.code_bytes :] / 2))
        self._shares = shares.ravel()
        """(bytes of an entry * 256,) what each adds to FAISS's product"""
        self._offsets = CODEWORDS * np.arange(len(shares))

    @classmethod
    def mapped(cls, codec: Codec, folder: Path) -> "AdditiveIndex":
        """The index in files that `write` made. Codes stay in the files: processes that map them share their pages."""
        index = cls(codec, np.empty((0, codec.code_bytes), np.uint8))
        index._lists = mapped_lists(folder / INDEX)
        index.squares = np.load(folder / SQUARES, mmap_mode="r")
        index._take()
        return index

    @staticmethod
    def write(codec: Codec, blocks: Iterable[Codes], folder: Path) -> None:
        """Writes `files` over blocks of (n, code_bytes) codes, slots in their order; all codes are in RAM once."""
        index = AdditiveIndex(codec, np.concatenate([np.empty((0, codec.code_bytes), np.uint8), *blocks]))
        faiss.write_index(index._lists, str(folder / INDEX))
        np.save(folder / SQUARES, index.squares)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def ram_bytes(self) -> int:
        """Bytes of the lists, with an id of eight bytes beside each code, and of the codes' places and lengths."""
        held = LIST_BYTES * int(self._lists.nlist) + self.codes.ram_bytes + int(self.squares.nbytes)
        return len(self) * (int(self._lists.code_size) + 8) + held

    @property
    def mapped_bytes(self) -> int:
        """Those of them that a mapped index leaves in its files."""
        return len(self) * (int(self._lists.code_size) + 8) + int(self.squares.nbytes)

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
        lists = -(-len(self._coarse) * self.scanned(alive, share) // max(1, alive))
        slots, products = self._looked(queries, k, live, lists)
        short = slots[:, min(k, alive) - 1] < 0
        if alive and lists < len(self._coarse) and short.any():
            slots[short], products[short] = self._looked(queries[short], k, live, len(self._coarse))
        shares = self._shares[self.codes.entries(slots) + self._offsets].sum(axis=2)
        scores = self.codec.completed(queries, products, shares, self.squares[slots])
        best = top(np.where(slots < 0, np.float32(-np.inf), scores), slots, k)
        return Neighbours(np.where(np.isneginf(best.scores), -1, best.rows), best.scores)

    def near(self, queries: Vectors) -> list[Near]:
        """For each of (q, D) queries what turns (c,) slots into (c,) scores as `search` has them."""
        return [self._near(query[None]) for query in queries]

    def _near(self, query: Vectors) -> Near:
        return lambda slots: self.scores(query, slots[None])[0]

    def scores(self, queries: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(q, D) queries and (q, c) slots to the codec's (q, c) scores; -1 gets minus infinity."""
        scores = self.codec.scores(queries, self.codes[slots], self.squares[slots])
        return np.where(slots < 0, np.float32(-np.inf), scores)

    def _looked(self, queries: Vectors, k: int, live: NDArray[np.uint8], lists: int) -> Looked:
        """(q, D) queries to the (q, DEEPER k) best slots in so many lists, as FAISS ranks them, and its products."""
        faiss.omp_set_num_threads(1)  # it holds for the calling thread only; searches use the cores side by side
        points = self.codec.points(queries)
        wide = max(1, min(len(self), max(FEWEST_FOUND, DEEPER * k)))
        slots, products = np.empty((len(points), wide), np.int64), np.empty((len(points), wide), np.float32)
        bitmap = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(live))
        scanner = _Scanner(self._lists, bitmap)
        for start in range(0, len(points), QUERY_BLOCK):
            for at, tables in enumerate(self._tables(points[start : start + QUERY_BLOCK]), start):
                nearest = self._coarse.nearest(tables, float(points[at, -1]), lists)
                scanner.scan(tables, self.codes.filled[nearest], slots[at], products[at])
        return slots, np.where(slots < 0, np.float32(0), products)

    def _tables(self, points: Vectors) -> NDArray[np.float32]:
        """(q, D + 1) points to (q, bytes of an entry, 256): what each codeword adds to a point's product."""
        words = self.codec.codebooks.reshape(-1, self.codec.codebooks.shape[2])
        products = (points[:, :-1] @ words.T).reshape(len(points), -1, CODEWORDS)
        lengths = points[:, -1, None, None] * self._lengths
        lengths[:, : products.shape[1]] += products
        return np.asarray(lengths, np.float32)


class _Scanner:
    """FAISS's scan over the lists with tables of our own, for one thread."""

    def __init__(self, lists: faiss.IndexIVFPQ, selector: faiss.IDSelector) -> None:
        self._index = _unfilled(lists.pq.M, lists.nlist)
        self._index.replace_invlists(lists.invlists, False)
        self._centroids = faiss.rev_swig_ptr(self._index.pq.centroids.data(), lists.pq.M * CODEWORDS)
        self._selector = selector
        self._ones = np.ones(lists.pq.M, np.float32)

    def scan(
        self,
        tables: NDArray[np.float32],
        nearest: NDArray[np.int64],
        slots: NDArray[np.int64],
        products: NDArray[np.float32],
    ) -> None:
        """(bytes of an entry, 256) products and (l,) lists fill the (w,) best slots and their products; -1 where there
        are fewer.
        """
        self._centroids[:] = tables.ravel()
        # FAISS adds the lists' own distances to nothing where codes stand for themselves, not for residuals.
        given = (self._ones, len(slots), nearest, np.zeros(len(nearest), np.float32), products, slots)
        pointers = (part if isinstance(part, int) else faiss.swig_ptr(part) for part in given)
        parameters = faiss.SearchParametersIVF(sel=self._selector, nprobe=len(nearest))
        self._index.search_preassigned_c(1, *pointers, False, parameters)


def _filled(codec: ResidualCodec, codes: Codes) -> faiss.IndexIVFPQ:
    """The lists over (n, M) codes, each followed by its length where that is kept."""
    width, groups = codec.code_bytes + int(codec.metric is Metric.L2), Grouped(codes)
    lists = _unfilled(width, max(1, len(groups.sizes)))
    entries = faiss.ArrayInvertedLists(lists.nlist, width)
    lists.replace_invlists(entries, True)
    entries.this.disown()  # it is the index's
    if not len(codes):
        return lists
    stored = codes
    # Under cosine lengths hardly differ, so that their shares are enough; under ip they do not count.
    if codec.metric is Metric.L2:
        grid, places = _lengths(codec, codes)
        centroids = np.zeros((lists.pq.M, CODEWORDS), np.float32)
        centroids[-1] = grid
        faiss.copy_array_to_vector(centroids.ravel(), lists.pq.centroids)
        stored = np.hstack((codes, places[:, None]))
    stored, at = np.ascontiguousarray(stored[groups.order]), 0
    for number, size in enumerate(groups.sizes.tolist()):  # a list at a time, so that none has room left over
        part = slice(at, at + size)
        entries.add_entries(number, size, faiss.swig_ptr(groups.order[part]), faiss.swig_ptr(stored[part]))
        at += size
    lists.ntotal = len(codes)
    return lists


def _lengths(codec: ResidualCodec, codes: Codes) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(256,) lengths and which of them each code's |z|^2 has beyond the shares of its bytes, nearly."""
    columns = np.arange(codec.steps)  # an error byte's share is whole, and no rest of it is left
    left = np.empty(len(codes), np.float32)
    for start in range(0, len(codes), LENGTH_BLOCK):
        block = codes[start : start + LENGTH_BLOCK]
        z = codec.stored_latents(block)
        shares = codec.lengths[columns, block[:, : codec.steps]].sum(axis=1)
        left[start : start + LENGTH_BLOCK] = np.einsum("nd,nd->n", z, z) - shares
    grid = np.quantile(left, (np.arange(CODEWORDS) + 0.5) / CODEWORDS).astype(np.float32)
    return grid, np.searchsorted((grid[1:] + grid[:-1]) / 2, left).astype(np.uint8)


def _unfilled(width: int, count: int) -> faiss.IndexIVFPQ:
    """So many lists of entries of `width` bytes, of which none is there yet."""
    nearest = faiss.IndexFlat(width, faiss.METRIC_INNER_PRODUCT)  # it is not asked
    lists = faiss.IndexIVFPQ(nearest, width, count, width, 8, faiss.METRIC_INNER_PRODUCT, False)
    lists.by_residual = False
    lists.do_polysemous_training = False
    lists.is_trained = True
    return lists
