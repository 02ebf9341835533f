"""How hits are chosen among those found: diverse ones, or by a value of their metadata. Knows no view and no SQL."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Metric, Scores, Vectors, normalized


def diverse(scores: Scores, vectors: Vectors, k: int, diversity: float, metric: Metric) -> NDArray[np.int64]:
    """Places of k hits by maximal marginal relevance, from (n,) scores, best first, and the (n, D) vectors of the hits.

    The next one has the largest (1 - diversity) relevance - diversity max(0, cos(hit, a chosen one)). Relevance is
    the cosine; under the other metrics the score's place between the worst and the best one's, 0 to 1.

    Source: Carbonell and Goldstein, "The use of MMR", SIGIR 1998.
    """
    n, _ = vectors.shape
    units, relevance = normalized(vectors), scores
    if metric is not Metric.COSINE and n:
        relevance = (scores - scores[-1]) / max(float(scores[0] - scores[-1]), np.finfo(np.float32).tiny)
    chosen: list[int] = []
    redundancy, left = np.zeros(n, np.float32), np.ones(n, np.bool_)
    for _ in range(min(k, n)):
        best = int(np.argmax(np.where(left, (1 - diversity) * relevance - diversity * redundancy, -np.inf)))
        chosen.append(best)
        left[best] = False
        np.maximum(redundancy, units @ units[best], out=redundancy)
    return np.array(chosen, np.int64)


def value_at(metadata: Mapping[str, Any], path: str) -> str | int | float | bool | None:
    """The value at a dotted path that things are grouped by; none where there is a list, an object or nothing."""
    value: Any = metadata
    keys = path.split(".")
    while keys:
        # A key may have dots of its own: the longest that fits.
        fitting = (n for n in range(len(keys), 0, -1) if isinstance(value, Mapping) and ".".join(keys[:n]) in value)
        if (n := next(fitting, None)) is None:
            return None
        value, keys = value[".".join(keys[:n])], keys[n:]
    return value if isinstance(value, str | int | float) else None
