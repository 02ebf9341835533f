"""Whether new items are still like those that a codec was certified on. Knows no SQL and no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Vectors, exact_neighbours

FEWEST_NEW = 50
"""Items without which nothing is said."""
NEW, PAGES, PAGE = 500, 10, 100
"""The newest items that are looked at, and how many codes they are held against: pages, evenly spaced over the rows."""
DRIFTING, STALE = 0.5, 0.8
"""Shifts of a mean in standard deviations: a medium and a large effect (Cohen, 1988)."""
SURE = 3.0
"""Standard errors that a shift is beyond, or it is chance."""


class Freshness(StrEnum):
    """What a codec is to the items that come now."""

    FRESH = "fresh"
    DRIFTING = "drifting"
    STALE = "stale"
    """Trained on items of another kind: train again."""


@dataclass(frozen=True)
class Drift:
    """How far the newest items are from those of the certificate."""

    status: Freshness
    items: int
    """New ones that were looked at."""
    shifts: Mapping[str, float]
    """In standard deviations of the certificate's items: of the squared reconstruction error, and of the score of the
    nearest among known codes."""


class Look(NamedTuple):
    """What was seen of which generation, and when."""

    generation_id: int
    seq: int
    drift: Drift


def figures(codec: Codec, vectors: Vectors, codes: Codes, known: Codes) -> dict[str, Any]:
    """What is compared: of (n, D) items, prepared, their (n, B) codes, and (m, B) codes of others.

    Their mean and standard deviation; as it stands in a certificate.
    """
    decoded, others = (codec.decode(some.copy()) for some in (codes, known))  # torch reads no buffers of bytes
    errors = np.square(vectors - decoded).sum(axis=1)
    nearest = exact_neighbours(others, vectors, 1, codec.metric).scores[:, 0]
    return {"items": len(vectors), "error": _spread(errors), "nearest": _spread(nearest)}


def compared(certified: Mapping[str, Any], now: Mapping[str, Any]) -> Drift:
    """New items' figures against those of the certificate."""
    chance = SURE * np.sqrt(1 / certified["items"] + 1 / max(1, now["items"]))
    shifts = {
        name: (now[name]["mean"] - certified[name]["mean"]) / max(certified[name]["std"], 1e-12)
        for name in ("error", "nearest")
    }
    most = max(map(abs, shifts.values()))
    status = Freshness.FRESH
    if now["items"] >= FEWEST_NEW and most > chance:
        status = Freshness.STALE if most >= STALE else Freshness.DRIFTING if most >= DRIFTING else status
    return Drift(status, now["items"], {name: round(shift, 3) for name, shift in shifts.items()})


def _spread(values: NDArray[np.float32]) -> dict[str, float]:
    return {"mean": float(values.mean(dtype=np.float64)), "std": float(values.std(dtype=np.float64))}
