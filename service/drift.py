"""Whether new items, and queries, are still like what a codec was certified on. Knows no SQL and no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
CODES = 20_000
"""Codes whose spread is looked at, evenly spaced over the live ones."""


class Freshness(StrEnum):
    """What a codec is to the items that come now."""

    FRESH = "fresh"
    DRIFTING = "drifting"
    STALE = "stale"
    """Trained on items of another kind: train again."""


class Shift(NamedTuple):
    """How far vectors are from the items of the certificate."""

    status: Freshness
    vectors: int
    """That were looked at."""
    shifts: Mapping[str, float]
    """In standard deviations of the certificate's items: of the squared reconstruction error, but for queries, and of
    the score of the nearest among known codes."""


class Spread(NamedTuple):
    """How evenly codes use what they could, by the names of `models.spread`."""

    certified: Mapping[str, float]
    now: Mapping[str, float]


@dataclass(frozen=True)
class Drift:
    """How far the newest items are from those of the certificate; and beside it, which decide nothing, the newest
    queries that this process answered, and all live codes.
    """

    status: Freshness
    items: int
    """New ones that were looked at."""
    shifts: Mapping[str, float]
    queries: Shift | None = None
    """None before enough came."""
    codes: Spread = field(default_factory=lambda: Spread({}, {}))
    """Empty now where nobody has searched yet: what is not loaded is not looked at."""


class Look(NamedTuple):
    """What was seen of which generation, and when."""

    generation_id: int
    seq: int
    drift: Drift


def figures(codec: Codec, vectors: Vectors, codes: Codes, known: Codes) -> dict[str, Any]:
    """What is compared: of (n, D) items, prepared, their (n, B) codes, and (m, B) codes of others.

    Their mean and standard deviation; as it stands in a certificate.
    """
    errors = np.square(vectors - codec.decode(codes.copy())).sum(axis=1)  # torch reads no buffers of bytes
    return {"error": _spread(errors), **query_figures(codec, vectors, known)}


def query_figures(codec: Codec, vectors: Vectors, known: Codes) -> dict[str, Any]:
    """The same of (q, D) queries, which are never encoded: nobody asks how well a code would keep them."""
    nearest = exact_neighbours(codec.decode(known.copy()), vectors, 1, codec.metric).scores[:, 0]
    return {"items": len(vectors), "nearest": _spread(nearest)}


def compared(certified: Mapping[str, Any], now: Mapping[str, Any]) -> Shift:
    """The figures of new items, or queries, against those of the certificate."""
    chance = SURE * np.sqrt(1 / certified["items"] + 1 / max(1, now["items"]))
    shifts = {
        name: (now[name]["mean"] - certified[name]["mean"]) / max(certified[name]["std"], 1e-12)
        for name in ("error", "nearest")
        if name in now
    }
    most = max(map(abs, shifts.values()))
    status = Freshness.FRESH
    if now["items"] >= FEWEST_NEW and most > chance:
        status = Freshness.STALE if most >= STALE else Freshness.DRIFTING if most >= DRIFTING else status
    return Shift(status, now["items"], {name: round(shift, 3) for name, shift in shifts.items()})


def _spread(values: NDArray[np.float32]) -> dict[str, float]:
    return {"mean": float(values.mean(dtype=np.float64)), "std": float(values.std(dtype=np.float64))}
