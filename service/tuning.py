"""How many codes a shortlist is to have for each hit. Knows no certificate and no contract's other conditions."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import Estimate, estimated

OVERSAMPLES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)
WIDEST = 2_000
"""Rows of the widest shortlist that is tried."""


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
