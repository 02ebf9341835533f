"""A binary autoencoder as a codec: bits of the code are its bucket keys. Knows no index and no training."""

import numpy as np
from numpy.typing import NDArray

from models.codec import TABLES, WIDEST_BUCKET_KEY
from models.learned import LearnedCodec
from models.metric import Vectors


class BinaryCodec(LearnedCodec):
    """Codes of b bits; see BinaryAutoencoder. Each table's key is 16 bits of the code, those of a query by its margins.

    The tables' bits are disjoint from b = 64 on and spread over the code; shorter codes use theirs again.
    """

    def bucket_margins(self, latents: Vectors) -> NDArray[np.float32]:
        """(n, b) activations to (n, TABLES, WIDEST_BUCKET_KEY) of them."""
        n, m = latents.shape
        wanted = TABLES * WIDEST_BUCKET_KEY
        columns = np.arange(wanted) * max(1, m // wanted) % m
        return np.asarray(latents[:, columns].reshape(n, TABLES, WIDEST_BUCKET_KEY), np.float32)
