"""Hashed TF-IDF: text to vectors with numpy alone. Knows no network and nothing of a collection's other texts."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from service.span import Span
from service.text.encoder import Encoded

STEM = 6
"""Letters of a word that its own feature keeps: "connected" and "connection" meet in "connec"."""
GRAM = 4
"""Letters of a character n-gram; "<" and ">" mark a word's ends."""
GRAM_WEIGHT = 0.5
"""An n-gram counts this much of a word: a word has many of them."""
IDF_SIZE = 32_768
"""Rows of idf.npy. More than a vector has buckets, so that few features share one."""

_WORD = re.compile(r"\w+")


class TfidfEncoder:
    """Signed feature hashing of TF-IDF weights; the fallback that needs no package and no download.

        v[bucket(f)] += sign(f) * g(f) * (1 + log tf(f)) * idf[row(f)] over the features f of a text;  v / |v|

    f runs over the first 6 letters of each lower-cased word (g = 1) and the 4-letter pieces of each word (g = 1/2).
    bucket, sign and row are bits of blake2b(f), so vectors are the same in every process. idf.npy is fixed, made of
    WordNet glosses by benchmarks/make_idf.py: a vector never changes because a collection grows. It compares letters,
    not meanings.

    No vector is zero: a text without a word ("!!!") is made of its characters instead, and where signs cancel to
    nothing they are dropped.

    Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning"; Salton & Buckley 1988, "Term-weighting
    approaches in automatic text retrieval".
    """

    name = "tfidf"
    window = None

    def __init__(self, dimension: int = 2048) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {dimension}")
        self.dimension = dimension
        with files(__package__).joinpath("idf.npy").open("rb") as file:
            self._idf: NDArray[np.float64] = np.load(file).astype(np.float64)

    @property
    def identity(self) -> str:
        """How many buckets there are."""
        return f"hashed-{self.dimension}"

    def spans(self, text: str) -> list[Span]:
        """Where its words are."""
        return [Span(*word.span()) for word in _WORD.finditer(text)]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Turns n texts into (n, dimension) vectors of length 1. Reads every text whole: no warnings, no errors."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._vector(text)
        return Encoded(vectors, [None] * len(texts))

    def _vector(self, text: str) -> NDArray[np.float64]:
        counts = features(text)
        hashes = np.array([_hash(feature) for feature in counts], dtype=np.uint64)
        tf = np.fromiter(counts.values(), dtype=np.float64, count=len(counts))
        gain = np.array([GRAM_WEIGHT if feature.startswith("#") else 1.0 for feature in counts])
        weights = gain * (1 + np.log(tf)) * self._idf[_idf_rows(hashes)]
        buckets = (hashes >> np.uint64(1)) % np.uint64(self.dimension)
        signed = np.where(hashes & np.uint64(1), weights, -weights)
        # bincount wants signed integers; float64 sums of equal weights cancel to exactly 0 or to a rounding error
        vector = np.bincount(buckets.astype(np.intp), weights=signed, minlength=self.dimension)
        if np.linalg.norm(vector) < 1e-6:
            vector = np.bincount(buckets.astype(np.intp), weights=weights, minlength=self.dimension)
        return vector / np.linalg.norm(vector)


def features(text: str) -> Counter[str]:
    """Each feature of a text and how often it occurs: word stems, and n-grams with a "#" before them. Never empty."""
    counts: Counter[str] = Counter()
    words = Counter(_WORD.findall(unicodedata.normalize("NFKC", text).lower()))
    for word, times in words.items():
        counts[word[:STEM]] += times
        marked = f"<{word}>"
        for start in range(len(marked) - GRAM + 1):
            counts["#" + marked[start : start + GRAM]] += times
    return counts or Counter(text) or Counter([""])


def inverse_frequencies(texts: Iterable[str]) -> NDArray[np.float16]:
    """(IDF_SIZE,): log((n + 1) / (df + 1)) of each row, df of the n texts having a feature in it; idf.npy holds it."""
    n, frequency = 0, np.zeros(IDF_SIZE)
    for text in texts:
        n += 1
        frequency[np.unique(_idf_rows(np.array([_hash(feature) for feature in features(text)], dtype=np.uint64)))] += 1
    return np.log((n + 1) / (frequency + 1)).astype(np.float16)


def _idf_rows(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Rows of the idf table, from bits that neither bucket nor sign uses."""
    return ((hashes >> np.uint64(32)) % np.uint64(IDF_SIZE)).astype(np.intp)


@lru_cache(maxsize=1 << 16)
def _hash(feature: str) -> int:
    return int.from_bytes(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
