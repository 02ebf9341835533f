"""What was measured of a generation before it was published. Knows no training and no HTTP."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from models import Vectors, recall
from service.index.exact import exact_search
from service.index.segment import IndexKind, RowArray
from service.index.view import View
from service.search import Originals, Plan, Stage, search

K = 10
OVERSAMPLE = 10


class HeldOut(NamedTuple):
    """Items that the codec was not trained on; each is a query that must not find itself."""

    rows: RowArray
    """(q,)"""
    vectors: Vectors
    """(q, D)"""


def measure(
    view: View,
    held_out: HeldOut,
    blocks: Iterable[tuple[RowArray, Vectors]],
    originals: Originals,
    kinds: Sequence[IndexKind] = (IndexKind.FAISS, IndexKind.BUCKETS),
    stages: Sequence[Stage] = (Stage.REFINE, Stage.RESCORE),
) -> dict[str, Any]:
    """recall@10 of the held-out items against exact search over all `blocks`, for each index and stage.

    `total_bytes` a vector counts codes, row ids, bitmap and the codec itself; for buckets the hash tables too, which
    are only built when a search asks for them.
    """
    truth = exact_search(blocks, held_out.vectors, K + 1, view.codec.metric)
    true_rows = np.stack([_others(rows, own) for rows, own in zip(truth.rows, held_out.rows, strict=True)])
    items = max(1, len(view))
    figures: dict[str, dict[str, float]] = {}
    total_bytes: dict[str, float] = {}
    for kind in kinds:
        figures[kind] = {}
        for stage in stages:
            found = search(view, held_out.vectors, Plan(K + 1, OVERSAMPLE, kind, stage), originals)
            rows = np.stack([_others(rows, own) for rows, own in zip(found.rows, held_out.rows, strict=True)])
            figures[kind][stage] = round(float(recall(rows, true_rows).mean()), 4)
        total_bytes[kind] = round((view.ram_bytes + view.codec.ram_bytes) / items, 2)
    return {
        "items": len(view),
        "queries": len(held_out.rows),
        "k": K,
        "oversample": OVERSAMPLE,
        "recall@10": figures,
        "code_bytes": view.codec.code_bytes,
        "total_bytes": total_bytes,
        "original_bytes": 4 * view.codec.dim,
        "fingerprint": view.codec.fingerprint,
    }


def _others(rows: RowArray, own: int) -> RowArray:
    """The first K of `rows` without the query's own."""
    return np.concatenate((rows[rows != own], np.full(1, -1, np.int64)))[:K]
