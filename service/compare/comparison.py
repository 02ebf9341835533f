"""Codewell's codecs and FAISS's of the same bytes, trained and measured on one sample. Knows no file and no page."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import (
    MOST_STEPS,
    BadConfig,
    Code,
    Codec,
    CodecError,
    Codes,
    Metric,
    QuantizerConfig,
    TrainingConfig,
    Vectors,
    exact_neighbours,
    factories,
    fit,
    kept,
    recall,
)
from service.codec_spec import codec_spec
from service.compare.vectors import Sample
from service.index.segment import IndexKind
from service.index.view import View
from service.search import Plan, Stage, search

DEPTHS = (1, 10, 100)
K, OVERSAMPLE = 10, 10
TIMED_QUERIES = 100
MILLION = 1_000_000

Progress = Callable[[str, float], None]
"""Told which code is being trained, and the share of its training that is done."""


class Split(StrEnum):
    """Which items are searched."""

    LATE = "late"
    """Never seen by a training."""
    TRAINED = "trained"


@dataclass(frozen=True)
class Candidate:
    """A code that takes part."""

    name: str
    codec: dict[str, Any]
    """As a collection or a training takes it."""

    @property
    def is_ours(self) -> bool:
        """Whether FAISS has not made it."""
        return bool(self.codec["kind"] != "faiss")

    @property
    def is_offered(self) -> bool:
        """Whether a collection can take it."""
        try:
            return self.is_ours or bool(QuantizerConfig(self.codec["factory"]))
        except BadConfig:
            return False


@dataclass(frozen=True)
class Failed:
    """A code that could not be trained."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Measured:
    """A code and what was measured of it."""

    candidate: Candidate
    code_bytes: int
    total_bytes: float
    """A vector, where all that were compared share codebooks and networks,"""
    total_bytes_at_a_million: float
    """and where a million do."""
    recall: dict[Split, dict[int, float]]
    """Share of the true k that are among the first k by the codes' own scores, all of which are looked at; by k."""
    error: dict[Split, float]
    """Squared, in units of the variance."""
    train_seconds: float
    encode_seconds: float
    """Of the items that are searched, both splits."""
    search_ms: float
    """Median of a query by the service's index over both splits: 100 codes found, and the ten best of them by the
    codec's own score, on one thread.
    """
    hits: dict[Split, NDArray[np.float64]] = field(repr=False)
    """(q,) recall@10 of each query."""


def candidates(dim: int, size: int) -> list[Candidate]:
    """The codes of `size` bytes at most for vectors of `dim` numbers, FAISS's as far as the service has them."""
    kinds = ("residual", "dense") if size <= MOST_STEPS else ("dense",)
    ours = [Candidate(f"Codewell {kind}", {"kind": kind, "bytes": size}) for kind in kinds]
    theirs = [Candidate(f"FAISS {name}", {"kind": "faiss", "factory": name}) for name in factories(dim, size)]
    return ours + [candidate for candidate in theirs if candidate.is_offered]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how long each code may be trained."""

    sample: Sample
    metric: Metric
    size: int
    """Bytes of a code, at most."""
    training: TrainingConfig
    threads: int

    @property
    def candidates(self) -> list[Candidate]:
        """The codes that take part."""
        return candidates(self.sample.seen.shape[1], self.size)

    def rows(self, progress: Progress) -> Iterator[Measured | Failed]:
        """Trains and measures one code after the other."""
        torch.set_num_threads(self.threads)
        searched = {Split.LATE: self.sample.late, Split.TRAINED: self.sample.trained}
        truth = {
            split: exact_neighbours(vectors, self.sample.queries, max(DEPTHS), self.metric).rows
            for split, vectors in searched.items()
        }
        for candidate in self.candidates:
            try:
                yield self._measured(candidate, searched, truth, progress)
            except CodecError as error:
                yield Failed(candidate, str(error))

    def _measured(
        self,
        candidate: Candidate,
        searched: dict[Split, Vectors],
        truth: dict[Split, NDArray[np.int64]],
        progress: Progress,
    ) -> Measured:
        sample = self.sample
        began = time.perf_counter()
        progress(candidate.name, 0.0)
        codec = fit(
            codec_spec(candidate.codec).config(sample.seen.shape[1], self.metric),
            sample.seen,
            self.metric,
            self.training,
            progress=lambda share, _: progress(candidate.name, share),
        ).codec
        train_seconds = time.perf_counter() - began
        codec.threads, codec.device = self.threads, "auto"
        code = Code.of(codec)
        found = {split: kept(code, vectors, sample.queries, self.metric) for split, vectors in searched.items()}
        shares = {
            split: {k: recall(found[split].rows[:, :k], rows[:, :k]) for k in DEPTHS} for split, rows in truth.items()
        }
        return Measured(
            candidate,
            code.code_bytes,
            code.total_bytes(len(sample.seen) + len(sample.late)),
            code.total_bytes(MILLION),
            {split: {k: float(share.mean()) for k, share in of.items()} for split, of in shares.items()},
            {split: of.error for split, of in found.items()},
            train_seconds,
            sum(of.encode_seconds for of in found.values()),
            _search_ms(codec, np.concatenate([part for of in found.values() for part in of.codes]), sample.queries),
            {split: of[K] for split, of in shares.items()},
        )


def _search_ms(codec: Codec, codes: Codes, queries: Vectors) -> float:
    view = View.of(None, codec, 0, np.arange(len(codes)), codes)
    plan, threads, seconds = Plan(K, OVERSAMPLE, IndexKind.FAISS, Stage.REFINE), torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for query in queries[:TIMED_QUERIES, None]:
            began = time.perf_counter()
            search(view, query, plan, lambda _: {})
            seconds.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return 1_000 * float(np.median(seconds))
