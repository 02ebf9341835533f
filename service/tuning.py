"""How many codes a shortlist is to have for each hit, and what share of the codes is looked at for it.

Knows no certificate and no contract's other conditions.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Estimate, estimated

OVERSAMPLES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)
WIDEST = 2_000
"""Rows of the widest shortlist that is tried."""
SCANS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
KEPT = 0.99
"""Of the recall that looking at every code gives, what a share of them must give."""
NEAR = 0.9995
"""Share of the true neighbours in the shortlist that the margin lets be read."""


def highest(least: Mapping[int, float], most: int) -> int:
    """The highest oversample that is tried, where searches may ask for `most`."""
    return max(1, min(most, WIDEST // max(least)))


class Setting(NamedTuple):
    """One oversample, and the recall it gave, by k."""

    oversample: int
    recall: Mapping[int, Estimate]


Recalls = Callable[[int, int], NDArray[np.float64]]
"""recall@k of each query, (q,), with an oversample."""


def tuned(recalls: Recalls, least: Mapping[int, float], most: int) -> list[Setting]:
    """Settings, cheapest first, up to the one that is enough or to the highest oversample.

    Enough is a recall above `least`, by k, by twice its interval's lower part: as many queries that were not tuned on
    will then certify it in nine cases of ten.
    """
    settings: list[Setting] = []
    end = highest(least, most)
    for oversample in (*(one for one in OVERSAMPLES if one < end), end):
        recall = {k: estimated(recalls(k, oversample)) for k in least}
        settings.append(Setting(oversample, recall))
        if all(2 * one.low - one.value >= least[k] for k, one in recall.items()):
            break
    return settings


def narrowest(recalls: Callable[[int, float], NDArray[np.float64]], k: int, least: Mapping[int, float]) -> float:
    """The smallest share of the codes that keeps recall@k, and all that is asked for by `least`, as `tuned` has it.

    `recalls` tells recall@k of each query, (q,), with a share; all codes are looked at where no less is enough.
    """
    whole = float(recalls(k, 1).mean())
    for scan in SCANS:
        found = {depth: recalls(depth, scan) for depth in {k, *least}}
        enough = (2 * one.low - one.value >= least[depth] for depth in least if (one := estimated(found[depth])))
        if found[k].mean() >= KEPT * whole and all(enough):
            return scan
    return 1
