"""One code, trained on a sample and measured as it would serve. Knows no other code and no choice between them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models import (
    Codes,
    Epoch,
    Estimate,
    Metric,
    Scores,
    TrainingConfig,
    Vectors,
    estimated,
    exact_neighbours,
    faiss_code,
    farther,
    fit,
    paired_scores,
    recall,
    top,
)
from service.codec_spec import codec_spec
from service.compare.comparison import Candidate
from service.compare.vectors import Sample
from service.index.segment import IndexKind, RowArray
from service.index.view import View
from service.profile import Profile
from service.search import BLOCK_NUMBERS, OVERSAMPLE, Originals, Plan, Stage, search
from service.tuning import WIDEST, Setting, highest, tuned

K = 10
TIMED = 50
"""Queries asked one by one."""
Progress = Callable[[float, Epoch], None]
ROW_BYTES = 8.125
"""Of a row id, and of its bit among those that live."""


@dataclass(frozen=True)
class Trial:
    """What all codes of a plan are measured on, and asked for."""

    sample: Sample
    """Its `trained` is not looked at."""
    metric: Metric
    items: int
    """The planned size."""
    least: Mapping[int, float]
    """Recall, by k."""
    stage: Stage
    """Where a default search stops."""
    most_oversample: int
    seed: int
    originals: Originals
    """Reads vectors by their number among those that are searched."""

    @classmethod
    def in_ram(
        cls,
        sample: Sample,
        metric: Metric,
        items: int,
        least: Mapping[int, float],
        stage: Stage,
        most_oversample: int,
        seed: int,
    ) -> "Trial":
        """Whose originals are the sample itself."""

        def originals(places: RowArray) -> Mapping[int, bytes]:
            return {place: trial.searched[place].tobytes() for place in places.tolist()}

        trial = cls(sample, metric, items, least, stage, most_oversample, seed, originals)
        return trial

    @cached_property
    def searched(self) -> Vectors:
        """(n, D), trained ones before late ones."""
        return np.concatenate((self.sample.seen, self.sample.late))

    @cached_property
    def truth(self) -> RowArray:
        """(q, k) true neighbours, best first, for the deepest k that is asked for."""
        deepest = max((K, *self.least))
        return exact_neighbours(self.searched, self.sample.queries, deepest, self.metric).rows

    @property
    def width(self) -> int:
        """Rows of the widest shortlist."""
        asked = self.least or {K: 0.0}
        widest = max(k * highest(asked, self.most_oversample) for k in asked)
        return min(len(self.searched), WIDEST, max(widest, max(asked), K * OVERSAMPLE))


class Found(NamedTuple):
    """What a code's shortlist has of the true neighbours."""

    shortlist: RowArray
    """(q, m), as the index orders it"""
    scores: Scores
    """(q, m), the code's own"""
    truth: RowArray

    def part(self, which: slice) -> "Found":
        """Of some of the queries."""
        return Found(self.shortlist[which], self.scores[which], self.truth[which])

    def rows(self, k: int, oversample: int, stage: Stage) -> RowArray:
        """(q, any) that a search has when it stops at the stage; those that are rescored have the true ones first."""
        short = slice(0, k * oversample)
        if stage is Stage.RESCORE:
            return self.shortlist[:, short]
        return top(self.scores[:, short], self.shortlist[:, short], k).rows

    def recall(self, k: int, oversample: int, stage: Stage) -> NDArray[np.float64]:
        """recall@k of each query, (q,)."""
        return recall(self.rows(k, oversample, stage), self.truth[:, :k])

    def late_recall(self, first: int) -> float:
        """recall@10 by codes alone, of the true neighbours whose row is `first` or later."""
        late = np.where(self.truth[:, :K] >= first, self.truth[:, :K], -1)
        counts = (late >= 0).sum(axis=1)
        found = recall(self.rows(K, OVERSAMPLE, Stage.REFINE), late)
        return float((found * counts).sum() / max(1, counts.sum()))


@dataclass(frozen=True)
class Point:
    """A code's place on the frontier."""

    candidate: Candidate
    code_bytes: int
    total_bytes: float
    """A vector in RAM at the planned size, with row ids, tables and codec;"""
    shared_bytes: float
    """the tables and the codec of all vectors together."""
    codes_only: Estimate
    """recall@10 with an oversample of 10, as the code ranks,"""
    rescored: Estimate
    """and as the originals of these rows do."""
    late: float
    """recall@10 by codes alone, of neighbours that no training saw."""
    setting: Setting
    """The cheapest that is enough on half of the queries, or the widest,"""
    certified: Mapping[int, Estimate]
    """and its recall on the other half, by k."""
    latency_ms: float | None
    """Median of a search at that setting over the sample, on one thread; none where no index here reads the code."""
    latency_ms_at_size: float | None
    """The same where the scan is as long as the planned size makes it."""
    training_seconds: float
    encoded_per_second: float

    @property
    def cost(self) -> tuple[float, int]:
        """What is to be small: bytes first, then originals read."""
        return round(self.total_bytes, 1), self.setting.oversample

    def vector_bytes(self, items: int) -> float:
        """What each vector takes by itself, where so many share the rest."""
        return self.total_bytes - self.shared_bytes / items

    @property
    def recall(self) -> Estimate:
        """recall@10 at the setting, or of the least deep k that was asked for."""
        return self.certified[min(self.certified, key=lambda k: abs(k - K))]


def measured(candidate: Candidate, trial: Trial, minutes: float, progress: Progress) -> Point:
    """Trains and measures one code.

    Raises:
        CodecError, TrainingStopped
    """
    sample, began = trial.sample, time.perf_counter()
    queries, searched, codec = sample.queries, trial.searched, None
    if candidate.is_offered:
        config = codec_spec(candidate.codec).config(searched.shape[1], trial.metric)
        training = TrainingConfig(minutes=minutes, seed=trial.seed)
        codec = fit(config, sample.seen, trial.metric, training, progress=progress).codec
        codec.threads, codec.device = torch.get_num_threads(), "auto"
        code_bytes = codec.code_bytes
    else:
        code = faiss_code(candidate.codec["factory"], sample.seen, trial.metric)
        code_bytes = code.code_bytes
    trained = time.perf_counter()
    codes = codec.encode(searched) if codec is not None else code.encode(searched)
    encoded = time.perf_counter()
    decoded = np.asarray(codec.decode(codes) if codec is not None else code.decode(codes), np.float32)
    if codec is not None:
        view = View.of(None, codec, 0, np.arange(len(codes)), codes)
        shortlist = view.search(queries, trial.width, IndexKind.FAISS).rows
        vector_bytes, shared_bytes = _bytes(view, codes)
    else:
        shortlist = exact_neighbours(decoded, queries, trial.width, trial.metric).rows
        vector_bytes, shared_bytes = code_bytes + ROW_BYTES, code.table_bytes
    errors = None if codec is None else codec.errors(codes)
    found = Found(shortlist, _scores(*farther(decoded, queries, errors), shortlist, trial.metric), trial.truth)
    tuning, certifying = found.part(slice(0, None, 2)), found.part(slice(1, None, 2))
    setting = Setting(OVERSAMPLE, {})
    if trial.least:
        setting = tuned(lambda k, o: tuning.recall(k, o, trial.stage), trial.least, trial.most_oversample)[-1]
    depths = trial.least or {K: 0.0}
    took = None if codec is None else _latency(view, queries, setting.oversample, trial)
    return Point(
        candidate,
        code_bytes,
        vector_bytes + shared_bytes / trial.items,
        shared_bytes,
        estimated(found.recall(K, OVERSAMPLE, Stage.REFINE)),
        estimated(found.recall(K, OVERSAMPLE, Stage.RESCORE)),
        found.late_recall(len(sample.seen)),
        setting,
        {k: estimated(certifying.recall(k, setting.oversample, trial.stage)) for k in depths},
        None if took is None else took[0],
        None if took is None else took[1],
        trained - began,
        len(searched) / max(1e-9, encoded - trained),
    )


def _scores(decoded: Vectors, queries: Vectors, shortlist: RowArray, metric: Metric) -> Scores:
    size = max(1, BLOCK_NUMBERS // (shortlist.shape[1] * decoded.shape[1]))
    blocks = (slice(start, start + size) for start in range(0, len(queries), size))
    return np.concatenate([paired_scores(queries[some], decoded[shortlist[some]], metric) for some in blocks])


def _bytes(view: View, codes: Codes) -> tuple[float, float]:
    """What each vector takes, and what all share."""
    one = View.of(None, view.codec, 0, np.arange(1), codes[:1]).ram_bytes
    grows = (view.ram_bytes - one) / (len(codes) - 1)
    return grows, one - grows + view.codec.ram_bytes


def _latency(view: View, queries: Vectors, oversample: int, trial: Trial) -> tuple[float, float]:
    """Milliseconds of the median search over the sample, and with a scan as long as the planned size makes it."""
    plan = Plan(K, oversample, IndexKind.FAISS, trial.stage)
    growth, threads, here, there = max(1.0, trial.items / len(view)), torch.get_num_threads(), [], []
    torch.set_num_threads(1)
    try:
        for query in queries[:TIMED, None]:
            profile = Profile()
            began = time.perf_counter()
            search(view, query, plan, trial.originals, profile)
            here.append(1_000 * (time.perf_counter() - began))
            there.append(here[-1] + (growth - 1) * profile.milliseconds["shortlist"])
    finally:
        torch.set_num_threads(threads)
    return float(np.median(here)), float(np.median(there))
