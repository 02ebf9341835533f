"""A sparse autoencoder as a codec: its active latents are its buckets. Knows no index and no training."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.codec import TABLES, WIDEST_BUCKET_KEY, cheapest
from models.learned import LearnedCodec
from models.metric import Codes, Metric, Scores, Vectors, decoded_scores
from models.sparse import SparseAutoencoder

SPARSE_BLOCK = 512
"""Vectors whose latents are in memory at once: 25 MB of 6,144 doubles."""


class Contributions(NamedTuple):
    """What a query's score of each code is the sum of."""

    latents: NDArray[np.int64]
    """(c, k); -1 where a code has fewer."""
    shares: Scores
    """(c, k) what each latent adds."""
    rest: Scores
    """(c,) what no latent adds."""


class SparseCodec(LearnedCodec):
    """Codes of k (index, value) pairs; see SparseAutoencoder.

    Table t of the buckets holds each code under its t-th strongest latent, so a bucket is what is mostly about one
    thing; a query looks into the buckets of the latents that it excites most.
    """

    _encoder: SparseAutoencoder
    _decoder: SparseAutoencoder

    def latents(self, vectors: Vectors) -> Vectors:
        """(n, D) to the (n, m) that the active latents are chosen from: also what is not active has its order."""
        with torch.inference_mode():
            scores = self._encoder.scores(torch.from_numpy(self.checked(vectors).astype(np.float64)))
        return scores.numpy().astype(np.float32)

    def point_scores(self, point: Vectors, stored: Vectors) -> Scores:
        """The score of (c, m) stored latents for one (m + 1,) point: that of the decoded vectors, up to |q|."""
        products = stored @ point[:-1] + point[-1]
        if self.metric is Metric.IP:
            return np.asarray(products, np.float32)
        with torch.inference_mode():
            decoded = self._decoder.decode(torch.from_numpy(stored)).numpy()
        return decoded_scores(products, np.einsum("cd,cd->c", decoded, decoded), self.metric)

    def contributions(self, query: Vectors, codes: Codes) -> Contributions:
        """The parts of the codec's own score of (c, 3 k) codes for one (D,) query.

            cosine   z_j <q, D_j> / (|q| |x_hat|)    the rest  <q, b> / (|q| |x_hat|)
            ip       z_j <q, D_j>                    the rest  <q, b>
            l2       2 z_j <q, D_j>                  the rest  2 <q, b> - |q|^2 - |x_hat|^2

        where D and b are those of x_hat in the space of vectors.
        """
        query = self.checked(query[None])[0]
        point = self.points(query[None])[0]
        with torch.inference_mode():
            indices, values = (part.numpy() for part in self._decoder.pairs(torch.from_numpy(codes)))
        shares, rest = values * point[indices], np.full(len(codes), point[-1])
        if self.metric is not Metric.IP:
            decoded = self.decode(codes)
            squares = np.einsum("cd,cd->c", decoded, decoded)
            if self.metric is Metric.L2:
                shares, rest = 2 * shares, 2 * rest - query @ query - squares
            else:
                lengths = np.sqrt(np.maximum(squares, np.float32(1e-30)))
                shares, rest = shares / lengths[:, None], rest / lengths
        latents = np.where(values > 0, indices, -1)
        return Contributions(latents, np.asarray(shares, np.float32), np.asarray(rest, np.float32))

    def directions(self, latents: NDArray[np.int64]) -> Vectors:
        """(l, D) of length 1: where vectors go when a latent grows."""
        with torch.inference_mode():
            atoms = self._decoder.scale * self._decoder.atoms[torch.from_numpy(latents)]
            return np.asarray(torch.nn.functional.normalize(atoms).numpy(), np.float32)

    def pairs(self, codes: Codes) -> tuple[NDArray[np.int64], Vectors]:
        """(n, 3 k) codes to (n, k) latents and (n, k) values, 0 where there is none."""
        with torch.inference_mode():
            indices, values = self._decoder.pairs(torch.from_numpy(np.ascontiguousarray(codes)))
        return indices.numpy(), np.asarray(values.numpy(), np.float32)

    def bucket_keys(self, codes: Codes, bits: int = WIDEST_BUCKET_KEY) -> NDArray[np.uint16]:
        """(n, 3 k) codes to (n, TABLES): indices of the strongest latents, the first again where there are fewer."""
        del bits
        k = self.config.k
        indices = np.ascontiguousarray(codes[:, : 2 * k]).view("<u2")
        values = codes[:, 2 * k :].astype(np.int16)
        order = np.argsort(-values, axis=1, kind="stable")[:, :TABLES]
        order = np.pad(order, ((0, 0), (0, TABLES - order.shape[1])), mode="edge")
        keys = np.take_along_axis(indices, order, axis=1)
        unused = np.take_along_axis(values, order, axis=1) == 0
        return np.asarray(np.where(unused, keys[:, :1], keys), np.uint16)

    def bucket_count(self, bits: int) -> int:
        """One for each latent, however many codes there are."""
        del bits
        return int(self.config.latents)

    def bucket_costs(self, latents: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
        """(m,) latents of a query to (TABLES, m): what excites a latent less costs more, in all tables the same."""
        del bits
        return np.broadcast_to(-latents, (TABLES, len(latents)))

    def nearest_buckets(self, latents: NDArray[np.float32], bits: int, most: int) -> NDArray[np.int64]:
        """(m,) latents of a query to the cheapest buckets of all tables, at most so many, cheapest first."""
        return cheapest(self.bucket_costs(latents, bits).ravel(), most)

    def query_key(self, latents: NDArray[np.float32], bits: int) -> None:
        """None: keys are indices of latents, which have no Hamming distances."""
        del latents, bits

    def _encode(self, vectors: Vectors) -> Codes:
        starts = range(0, len(vectors), SPARSE_BLOCK)
        return np.concatenate([super(SparseCodec, self)._encode(vectors[at : at + SPARSE_BLOCK]) for at in starts])

    def _decode(self, codes: Codes) -> Vectors:
        starts = range(0, len(codes), SPARSE_BLOCK)
        return np.concatenate([super(SparseCodec, self)._decode(codes[at : at + SPARSE_BLOCK]) for at in starts])
