"""What the latents of a sparse code mean: which items they are strongest in, and the words that set those apart.

Knows no SQL and no HTTP, and no language model: a label is made of the items' own words.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models import Codes, Vectors
from service.errors import InvalidInput
from service.index.chunks import ChunkView
from service.index.segment import RowArray
from service.index.view import View

if TYPE_CHECKING:
    from models import SparseCodec

TOP_ITEMS, BACKGROUND = 20, 1_000
"""Items whose words make a label, and those whose words it is set apart from."""
TERMS = 3
LEAST = 2
"""Items that a term of a label stands in."""
BLOCK = 65_536
WORD = re.compile(r"[^\W\d_]{2,}")

Texts = Callable[[RowArray], Mapping[int, str]]
"""Reads the texts of rows, without those that are gone or have none."""


@dataclass(frozen=True)
class Latent:
    """One latent over a whole view."""

    latent: int
    items: int
    """In which it is active."""
    label: str
    """Its terms; empty where its items have no text, or no words of their own."""


@dataclass(frozen=True)
class Part:
    """What one latent adds to a hit's score."""

    latent: int
    label: str
    share: float


@dataclass(frozen=True)
class Explanation:
    """The codec's own score of a hit as a sum: that of `parts` and `rest`."""

    score: float
    parts: list[Part]
    """The largest first, by magnitude."""
    rest: float


class Latents:
    """Of one sparse codec; labels that were made are kept. Thread-safe."""

    def __init__(self, codec: "SparseCodec") -> None:
        self._codec = codec
        self._labels: dict[int, str] = {}
        self._background: Counter[str] | None = None
        self._among = 0
        self._working = Lock()

    def steered(self, point: Vectors, boost: Mapping[int, float], suppress: Mapping[int, float], field: str) -> Vectors:
        """A (D,) query with directions of latents added to it, and taken from it, as parts of its own length.

        Raises:
            InvalidInput: there is no such latent.
        """
        steps = [(f"{field}boost", latent, weight) for latent, weight in boost.items()]
        steps += [(f"{field}suppress", latent, -weight) for latent, weight in suppress.items()]
        most = self._codec.config.latents
        for name, latent, _ in steps:
            if not 0 <= latent < most:
                raise InvalidInput(f"there is no latent {latent}; this codec's are 0 to {most - 1}", field=name)
        directions = self._codec.directions(np.array([latent for _, latent, _ in steps], np.int64))
        weights = np.array([weight for _, _, weight in steps], np.float32)
        return np.asarray(point + np.linalg.norm(point) * (weights @ directions), np.float32)

    def explained(self, point: Vectors, codes: Codes, view: View, texts: Texts) -> list[Explanation]:
        """Why each of (c, code_bytes) codes has its score for a (D,) query."""
        found = self._codec.contributions(point, codes)
        labels = self.labels(view, np.unique(found.latents[found.latents >= 0]).tolist(), texts)
        explanations = []
        for latents, shares, rest in zip(found.latents, found.shares.tolist(), found.rest.tolist(), strict=True):
            parts = [
                Part(latent, labels[latent], share)
                for latent, share in zip(latents.tolist(), shares, strict=True)
                if latent >= 0
            ]
            parts.sort(key=lambda part: -abs(part.share))
            explanations.append(Explanation(sum(part.share for part in parts) + rest, parts, rest))
        return explanations

    def commonest(self, view: View, limit: int, texts: Texts, chunks: ChunkView | None = None) -> list[Latent]:
        """The latents that are active in most live items of a view; in any of an item's `chunks`."""
        latents = self._codec.config.latents
        counts = np.zeros(latents, np.int64)
        pairs = [np.empty(0, np.int64)]
        for rows, indices, values in self._blocks(view):
            if chunks is None:
                counts += np.bincount(indices[values > 0], minlength=latents)
            else:
                pairs.append(np.unique((chunks.items_of(rows)[:, None] * latents + indices)[values > 0]))
        if chunks is not None:
            counts = np.bincount(np.unique(np.concatenate(pairs)) % latents, minlength=latents)
        best = np.argsort(-counts, kind="stable")[:limit]
        best = best[counts[best] > 0]
        labels = self.labels(view, best.tolist(), texts)
        return [Latent(latent, int(counts[latent]), labels[latent]) for latent in best.tolist()]

    def labels(self, view: View, latents: Sequence[int], texts: Texts) -> dict[int, str]:
        """A label for each latent, by the view in which it was first asked for."""
        with self._working:
            missing = sorted(set(latents) - self._labels.keys())
            if missing:
                if self._background is None:
                    rows = np.random.default_rng(0).permutation(view.live_rows())[:BACKGROUND]
                    sample = texts(np.sort(rows))
                    self._background, self._among = _frequencies(sample.values()), len(sample)
                for latent, rows in self._strongest(view, missing).items():
                    self._labels[latent] = self._label(list(texts(rows).values()))
            return {latent: self._labels[latent] for latent in latents}

    def _strongest(self, view: View, latents: Sequence[int]) -> dict[int, RowArray]:
        """The live rows in which each latent is strongest, at most TOP_ITEMS."""
        found: dict[int, list[tuple[float, int]]] = {latent: [] for latent in latents}
        for rows, indices, values in self._blocks(view):
            for latent, best in found.items():
                where = np.nonzero((indices == latent) & (values > 0))
                best += zip(values[where].tolist(), rows[where[0]].tolist(), strict=True)
                found[latent] = sorted(best, key=lambda pair: (-pair[0], pair[1]))[:TOP_ITEMS]
        return {latent: np.array([row for _, row in best], np.int64) for latent, best in found.items()}

    def _label(self, texts: Sequence[str]) -> str:
        """The terms whose share p of the items, against their share q of all, is largest by p log(p / q)."""
        counts = _frequencies(texts)
        background = self._background or Counter()
        weights = {
            term: count / len(texts) * np.log(count / len(texts) * (self._among + 1) / (background[term] + 0.5))
            for term, count in counts.items()
            if count >= LEAST
        }
        best = sorted((term for term, weight in weights.items() if weight > 0), key=lambda term: (-weights[term], term))
        return ", ".join(best[:TERMS])

    def _blocks(self, view: View) -> Iterator[tuple[RowArray, NDArray[np.int64], Vectors]]:
        for segment in (view.base, view.tail):
            slots = segment.live_slots()
            for start in range(0, len(slots), BLOCK):
                block = slots[start : start + BLOCK]
                yield segment.rows[block], *self._codec.pairs(segment.codes[block])


def _frequencies(texts: Iterable[str]) -> Counter[str]:
    """In how many texts each word stands."""
    return Counter(word for text in texts for word in {found.lower() for found in WORD.findall(text)})
