"""The best rows of a block by one matrix product, on CUDA in a process that uses it. Knows no codec and no file."""

import sys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.evaluation import top
from models.metric import Metric, Vectors, score_matrix

if TYPE_CHECKING:
    import torch


def best_rows(
    queries: Vectors, vectors: Vectors, k: int, metric: Metric, device: "torch.device | None" = None
) -> NDArray[np.int64]:
    """The k rows of each query whose scores are highest as the product rounds them: (q, D) and (n, D) to (q, k).

    Two devices round differently: take more than are needed and score those with `paired_scores`. `device` is CUDA
    where it is none and the process has loaded PyTorch, which finds one; a process that needs no PyTorch is not made
    to load it for this.
    """
    device = device or _cuda()
    if device is None:
        return top(score_matrix(queries, vectors, metric), np.arange(len(vectors)), k).rows
    import torch

    asked, rows = (torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in (queries, vectors))
    if metric is Metric.L2:  # as `score_matrix` expands it, less what all scores of a query share
        centre = rows.mean(dim=0)
        asked, rows = asked - centre, rows - centre
        scores = 2 * asked @ rows.T - (rows * rows).sum(dim=1)
    else:  # a query's length orders nothing
        rows = torch.nn.functional.normalize(rows) if metric is Metric.COSINE else rows
        scores = asked @ rows.T
    scores = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return np.asarray(scores.topk(k, dim=1).indices.cpu().numpy(), np.int64)


def _cuda() -> "torch.device | None":
    torch = sys.modules.get("torch")
    return torch.device("cuda") if torch is not None and torch.cuda.is_available() else None
