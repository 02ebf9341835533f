"""Which rows of a block lie nearest, by one matrix product, on the processor or on CUDA. Knows no codec and no file."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.evaluation import top
from models.metric import Metric, Scores, Vectors, rounded_scores

if TYPE_CHECKING:
    import torch

Rows = NDArray[np.int64]


def near_rows(
    queries: Vectors, vectors: Vectors, k: int, metric: Metric, device: str = "cpu", least: Scores | None = None
) -> Rows:
    """(q, m) rows, among which are the k best of each query that score as `least` (q,) or better; -1 fills up.

    Of (q, D) queries, at length 1 under cosine, and (n, D) vectors; of copies of one vector the first are found. A
    product rounds, and on each device in its own way: a few times as many rows as are wanted, scored term by term, give
    the same k on both. `device` is named as in TrainingConfig; only another than "cpu" imports PyTorch. A query that
    CUDA cannot be sure of is asked of the processor: more rows may be among its best, as where many are equal, or where
    one is much longer than the others.

    Raises:
        BadConfig: no such device.
    """
    few = min(2 * k, len(vectors))
    least = np.full(len(queries), -np.inf, np.float32) if least is None else least
    if device != "cpu" and len(queries) and few < len(vectors):
        from models.device import device_named

        if (there := device_named(device)).type != "cpu":
            near, clear = _on(there, queries, vectors, k, metric, least)
            if not clear.all():
                here = _here(queries[~clear], vectors, k, metric, least[~clear])
                near = np.pad(near, ((0, 0), (0, max(0, here.shape[1] - near.shape[1]))), constant_values=-1)
                near[~clear] = -1
                near[~clear, : here.shape[1]] = here
            return near
    return _here(queries, vectors, k, metric, least)


def _here(queries: Vectors, vectors: Vectors, k: int, metric: Metric, least: Scores) -> Rows:
    scores, error = rounded_scores(queries, vectors, metric)
    good = ~(scores < (least - error)[:, None])  # which holds for what is no number, too: `top` puts that last
    crowded = np.flatnonzero(good.sum(axis=1) > 2 * k)
    if len(crowded):
        good[crowded] = _best(scores[crowded], error[crowded], k)
    counts = good.sum(axis=1)
    near = np.full((len(queries), counts.max(initial=0)), -1, np.int64)
    asked, rows = np.nonzero(good)
    near[asked, np.arange(len(asked)) - np.repeat(counts.cumsum() - counts, counts)] = rows
    return near


def _best(scores: Scores, error: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """(q, n) rounded scores to which rows are the 2 k best, or the first k of those that may be as good as the k-th: a
    product can round copies of one vector apart, and of equals the first ones are to be found.
    """
    _, n = scores.shape
    best, chosen = top(scores, np.arange(n), 2 * k).rows, np.zeros(scores.shape, np.bool_)
    last, apart = np.take_along_axis(scores, best[:, k - 1 : k], 1), 2 * error[:, None]
    many = np.flatnonzero((scores >= last - apart).sum(axis=1) > 2 * k)
    equal = np.abs(scores[many] - last[many]) <= apart[many]
    chosen[many] = equal & (equal.cumsum(axis=1) <= k)
    np.put_along_axis(chosen, best, True, 1)
    return chosen


def _on(
    device: "torch.device", queries: Vectors, vectors: Vectors, k: int, metric: Metric, least: Scores
) -> tuple[Rows, NDArray[np.bool_]]:
    """2 k rows a query at most, and of which queries these are all that can be among the best, by any rounding."""
    import torch

    asked, rows, least_there = (
        torch.tensor(part, dtype=torch.float32, device=device) for part in (queries, vectors, least)
    )
    scores, error = rounded_scores(asked, rows, metric)
    best, places = scores.topk(2 * k + 1, dim=1)
    clear = best[:, 2 * k] < torch.maximum(best[:, k - 1] - error, least_there) - error  # which no NaN is
    most = int((~(best[:, : 2 * k] < (least_there - error)[:, None])).sum(dim=1).max())
    return places[:, :most].cpu().numpy(), clear.cpu().numpy()
