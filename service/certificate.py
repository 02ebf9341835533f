"""What was measured of a generation before it was published. Knows no training and no HTTP."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from models import Codec, Estimate, Vectors, estimated
from service.index.segment import IndexKind
from service.profile import Profile
from service.questions import Questions
from service.search import OVERSAMPLE, Originals, Plan, Stage, search
from service.tuning import NEAR, SCANS, highest, narrowest, tuned

K = 10
KINDS = (IndexKind.FAISS, IndexKind.BUCKETS)
STAGES = (Stage.REFINE, Stage.RESCORE)
ENCODED = 1_000
"""Vectors encoded for the rate."""
TIMED = 100
"""Queries asked one by one for the latency."""


def measure(
    asked: Questions,
    items: int,
    oversample: int = OVERSAMPLE,
    kinds: Sequence[IndexKind] = KINDS,
    stages: Sequence[Stage] = STAGES,
    scan: float = 1,
    margin: float | None = None,
) -> dict[str, Any]:
    """recall@10 against exact search for each index and stage; for the default, which is FAISS to the last of `stages`,
    recall@1, 10 and 100 with their intervals.

    `total_bytes` a vector counts codes, row ids, bitmap and the codec itself; for buckets the hash tables too, which
    are only built when a search asks for them.
    """
    view = asked.view
    figures: dict[str, dict[str, float]] = {}
    total_bytes: dict[str, float] = {}
    for kind in kinds:
        figures[kind] = {
            stage: round(float(asked.recall(Plan(K, oversample, kind, stage, scan, margin)).mean()), 4)
            for stage in stages
        }
        total_bytes[kind] = round((view.ram_bytes + view.codec.ram_bytes) / max(1, items), 2)
    default = Plan(K, oversample, IndexKind.FAISS, stages[-1], scan, margin)
    intervals = {k: estimated(asked.recall(replace(default, k=k))) for k in asked.depths}
    return {
        "items": items,
        "queries": len(asked),
        "k": K,
        "oversample": oversample,
        "scan": scan,
        "margin": margin,
        "recall@10": figures,
        "stage": stages[-1],
        "intervals": _told(intervals),
        "code_bytes": view.codec.code_bytes,
        "total_bytes": total_bytes,
        "original_bytes": 4 * view.codec.dim,
        "codec_ram_bytes": view.codec.ram_bytes,
    }


def certify(
    asked: Questions,
    items: int,
    stages: Sequence[Stage],
    least: Mapping[int, float],
    most_oversample: int,
    kinds: Sequence[IndexKind] = KINDS,
) -> dict[str, Any]:
    """Tunes on half of the queries, and measures on the other half.

    The oversample is tuned to the recalls, by k, that a contract asks for; the share of codes that is looked at, and
    the margin within which originals are read, to what they keep of the recall. Where nothing is asked for, and every
    code is looked at, all queries are measured.
    """
    least = {k: recall for k, recall in least.items() if k in asked.depths}
    narrows = asked.view.most_scored(K, IndexKind.FAISS, min(SCANS)) < len(asked.view)
    if not least and not narrows:
        return measure(asked, items, kinds=kinds, stages=stages)
    tuning, certifying = asked.halves()

    def recalls(k: int, oversample: int, scan: float = 1) -> NDArray[np.float64]:
        return tuning.recall(Plan(k, oversample, IndexKind.FAISS, stages[-1], scan))

    tried = tuned(recalls, least, most_oversample) if least else []
    oversample = tried[-1].oversample if tried else OVERSAMPLE
    scan = narrowest(lambda k, scan: recalls(k, oversample, scan), K, least) if narrows else 1
    margin = None
    if stages[-1] is Stage.RESCORE and asked.view.scored:
        gaps = tuning.gaps(Plan(K, oversample, IndexKind.FAISS, Stage.RESCORE, scan))
        margin = round(float(np.quantile(gaps, NEAR)), 6) if len(gaps) else None
    certificate = measure(certifying, items, oversample, kinds, stages, scan, margin)
    certificate |= {"tuned_on": len(tuning)}
    if not least:
        return certificate
    certificate |= {
        "tuning": [{"oversample": one.oversample, **_told(one.recall)} for one in tried],
        "most_oversample": highest(least, most_oversample),
    }
    if stages[-1] is not Stage.RESCORE:
        plan = Plan(K, oversample, IndexKind.FAISS, Stage.RESCORE, scan)
        rescored = {k: certifying.recall(replace(plan, k=k)) for k in least}
        certificate["with_originals"] = _told({k: estimated(recalls) for k, recalls in rescored.items()})
    return certificate


def latency(asked: Questions, certificate: Mapping[str, Any], originals: Originals) -> dict[str, Any]:
    """Milliseconds that half and 99 of 100 of default searches for ten hits take, one at a time, in this process, and
    how many originals one reads.
    """
    oversample, *others = (certificate[name] for name in ("oversample", "stage", "scan", "margin"))
    view, plan, profile, took = asked.apart(), Plan(K, oversample, IndexKind.FAISS, *others), Profile(), list[float]()
    for vector in asked.vectors[:TIMED]:
        began = time.perf_counter()
        search(view, vector[None], plan, originals, profile)
        took.append(1000 * (time.perf_counter() - began))
    middle, slowest = (round(float(np.quantile(took, share)), 2) for share in (0.5, 0.99))
    read = round(profile.counts.get("originals", 0) / len(took), 1)
    return {"latency_ms": {"p50": middle, "p99": slowest}, "originals_read": read}


def encode_rate(codec: Codec, vectors: Vectors) -> int:
    """Vectors a second that the codec encodes, in this process with its threads."""
    some = np.array(vectors[:ENCODED])
    began = time.perf_counter()
    codec.encode(some)
    return round(len(some) / (time.perf_counter() - began))


def versions() -> dict[str, str]:
    """Of what made the codec and measured it."""
    return {
        "codewell": version("codewell"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "faiss": faiss.__version__,
        "numpy": np.__version__,
    }


def _told(recall: Mapping[int, Estimate]) -> dict[str, dict[str, float]]:
    return {
        f"recall@{k}": {name: round(value, 4) for name, value in estimate._asdict().items()}
        for k, estimate in recall.items()
    }
