"""A residual autoencoder as a codec: its leading bytes are its buckets. Knows no index and no training."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from models.additive import MAPPED, Tables, searched
from models.blocks import mapped
from models.codec import WIDEST_BUCKET_KEY
from models.device import device_named
from models.learned import LearnedCodec
from models.metric import Codes, Metric, Scores, Vectors
from models.residual import CODEWORDS, ResidualAutoencoder


class ResidualCodec(LearnedCodec):
    """Codes of one byte a step; see ResidualAutoencoder.

    There is one table of buckets: a code's address is its first byte, or its first two where there are codes enough.
    """

    _encoder: ResidualAutoencoder
    _decoder: ResidualAutoencoder

    def __init__(self, model: ResidualAutoencoder, metric: Metric) -> None:
        super().__init__(model, metric)
        self._encoder.codebooks = self._decoder.codebooks  # one copy is enough
        self._tables: Tables | None = None

    @property
    def ram_bytes(self) -> int:
        """Bytes of codebooks, as they are and as an index reads them, and of the projection.

        From its first vector on, a process that encodes holds models/additive.py's tables too.
        """
        # super() counts the codebooks twice, for encoder and decoder: one of them stands for the index's form of them.
        return super().ram_bytes + self._decoder.lengths.nbytes

    def scores(self, queries: Vectors, codes: Codes) -> Scores:
        """The decoded vectors' scores, which need no decoding: (q, D) and (q, c, code_bytes) to (q, c)."""
        q, c, width = codes.shape
        with torch.inference_mode():
            z = self._decoder.unpack(torch.from_numpy(codes.reshape(q * c, width))).reshape(q, c, -1)
            scores = np.asarray(self._decoder.scores(torch.from_numpy(self.checked(queries)), z, self.metric))
            return scores.clip(-1, 1) if self.metric is Metric.COSINE else scores

    def point_scores(self, point: Vectors, stored: Vectors) -> Scores:
        """The score of (c, D) sums of codewords for one (D + 1,) point."""
        return np.asarray(stored @ point[:-1] + point[-1] * np.einsum("cd,cd->c", stored, stored), np.float32)

    def bucket_keys(self, codes: Codes, bits: int = WIDEST_BUCKET_KEY) -> NDArray[np.uint16]:
        """(n, M) codes to (n, 1): the first byte, or the first two."""
        first = codes[:, :1].astype(np.uint16)
        return first if self.bucket_count(bits) == CODEWORDS else first * CODEWORDS + codes[:, 1:2]

    def bucket_count(self, bits: int) -> int:
        """256, or 65,536 where the codes are as many."""
        return CODEWORDS if bits < WIDEST_BUCKET_KEY or self.code_bytes == 1 else CODEWORDS**2

    def bucket_costs(self, latents: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
        """(D,) components of a query to (1, buckets): squared distances of the buckets' sums of codewords, up to what
        is the same for all; under ip minus their inner products.
        """
        if self.metric is Metric.IP:
            model = self._encoder
            costs = -self._books @ np.asarray(latents * model.scale.numpy() + (model.mean @ model.principal).numpy())
        else:
            costs = np.square(self._books).sum(axis=2) - 2 * self._books @ latents
        if self.bucket_count(bits) == CODEWORDS:
            return np.asarray(costs[:1], np.float32)
        pairs = costs[0][:, None] + costs[1]
        return np.asarray((pairs if self.metric is Metric.IP else pairs + 2 * self._crossed).reshape(1, -1), np.float32)

    def _encode(self, vectors: Vectors) -> Codes:
        device, beam = device_named(self.device), self.config.beam
        with torch.inference_mode():
            z = self._encoder.encode(torch.from_numpy(vectors.astype(np.float64)))
            z = (z * self._encoder.weights).float().to(device)
            tables = self._searched(device)
            parts = mapped(lambda block: searched(z[block], tables, beam), len(z), MAPPED, self.threads, device=device)
            return torch.cat(parts).cpu().numpy()

    def _searched(self, device: torch.device) -> Tables:
        tables = self._tables
        if tables is None or tables.words.device.type != device.type:
            tables = self._tables = self._decoder.searched().to(device)
        return tables

    @cached_property
    def _books(self) -> NDArray[np.float32]:
        return np.asarray(self._decoder.codebooks[:2])

    @cached_property
    def _crossed(self) -> NDArray[np.float32]:
        return np.asarray(self._books[0] @ self._books[1].T, np.float32)
