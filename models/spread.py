"""How evenly codes use what they could: bits, latents, codewords and buckets. Knows no index and no SQL."""

import numpy as np
from numpy.typing import NDArray

from models.codec import Codec
from models.metric import Codes
from models.residual_codec import ResidualCodec
from models.space import ProductSpace, SparseSpace

BUCKET_BITS = 8
"""Of the bucket keys that are counted, where a key is a string of bits."""


def spread(codec: Codec, codes: Codes) -> dict[str, float]:
    """Figures of (n, code_bytes) codes, n at least 2, by the codec's kind, to four decimals.

    bit_balance        binary: the entropy of a bit, averaged over the bits: 1 where each is set in half of the codes
    dead_latents       sparse: the share of latents that are active in none of the codes
    codeword_balance   residual, and FAISS's PQ and RQ: the entropy of a byte as a share of 8 bits, averaged over bytes
    bucket_skew        how many times as many others a code has in its buckets as if all buckets were equally full:
                       B sum n_b (n_b - 1) / (n (n - 1)), averaged over the tables of B buckets
    """
    figures = {}
    if codec.kind == "binary":
        set_ = np.unpackbits(codes, axis=1).mean(axis=0)
        figures["bit_balance"] = float(_entropies(np.stack((set_, 1 - set_))).mean())
    elif isinstance(codec, ResidualCodec) or isinstance(codec.space, ProductSpace):
        words = codes[:, : codec.steps] if isinstance(codec, ResidualCodec) else codes  # an error byte picks none
        shares = np.stack([np.bincount(column, minlength=256) for column in words.T], axis=1) / len(codes)
        figures["codeword_balance"] = float(_entropies(shares).mean() / 8)
    elif isinstance(codec.space, SparseSpace):
        k = codec.space.k
        active = np.ascontiguousarray(codes[:, : 2 * k]).view("<u2")[codes[:, 2 * k :] > 0]
        figures["dead_latents"] = 1 - len(np.unique(active)) / codec.space.latents
    figures["bucket_skew"] = _skew(codec, codes)
    return {name: round(figure, 4) for name, figure in figures.items()}


def _entropies(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """(values, columns) shares that add up to 1 to the (columns,) entropies in bits."""
    logarithms = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logarithms).sum(axis=0))


def _skew(codec: Codec, codes: Codes) -> float:
    buckets, n = codec.bucket_count(BUCKET_BITS), len(codes)
    counts = [np.bincount(keys, minlength=buckets) for keys in codec.bucket_keys(codes, BUCKET_BITS).T]
    return float(np.mean([buckets * (count * (count - 1.0)).sum() for count in counts]) / (n * (n - 1)))
