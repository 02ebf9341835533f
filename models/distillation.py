"""Trains an additive decoder so that decoded vectors keep the order of neighbours. Knows no codes and no checkpoint.

Rank distillation: queries are training vectors; the softmax of decoded scores over some of a query's neighbours and
some other vectors is to be that of the exact scores (Cao et al., "Learning to Rank", ICML 2007, for the loss). The
decoder is one affine map of the sums of codewords. It folds back into them, and so costs no byte and no time. Tables
trained freely gain more on the vectors they were trained on, and lose on later ones: they learn them by heart.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.blocks import mapped
from models.metric import Metric
from models.residual import ResidualAutoencoder

QUERIES = 10_000
NEIGHBOURS = 100
STEPS = 1_500
"""Where there are 30,000 vectors or more; a twentieth of their number where there are fewer, which is three passes."""
STEP_QUERIES = 64
STEP_NEAR, STEP_OTHERS = 24, 24
LEARNING_RATE = 1e-3
SHARPNESS = 0.25
"""The softmax's temperature, as a share of the distance between the first and the hundredth neighbour's score."""
QUERY_BLOCK = 100


class Graph(NamedTuple):
    """Some vectors and their true neighbours among all others."""

    queries: Tensor
    """(q,) which"""
    neighbours: Tensor
    """(q, k) which are theirs, the nearest first, themselves left out"""
    scores: Tensor
    """(q, k)"""


def neighbour_graph(
    vectors: Tensor, metric: Metric, generator: torch.Generator, between: Callable[[], None], most: int = QUERIES
) -> Graph:
    """Exact neighbours of at most `most` of (n, dim) prepared vectors; `between` is called now and then."""
    n, device = len(vectors), vectors.device
    k = min(NEIGHBOURS, n - 1)
    queries = torch.randperm(n, generator=generator)[:most].to(device)
    if metric is Metric.L2:  # the square is expanded about the mean, where fewest digits cancel
        vectors = vectors - vectors.mean(dim=0)
    squares = vectors.square().sum(dim=1)

    def found(block: slice) -> tuple[Tensor, Tensor]:
        rows = queries[block]
        scores = vectors[rows] @ vectors.T
        if metric is Metric.L2:
            scores.mul_(2).sub_(squares).sub_(squares[rows][:, None])
        scores[torch.arange(len(rows), device=device), rows] = -torch.inf
        best = scores.topk(k, dim=1)
        return best.indices, best.values

    parts = mapped(found, len(queries), QUERY_BLOCK, torch.get_num_threads(), between, device)
    return Graph(queries, torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))


def distilled(
    model: ResidualAutoencoder,
    vectors: Tensor,
    sums: Tensor,
    graph: Graph,
    metric: Metric,
    seed: int,
    between: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """The (D, D) map A and the (D,) shift b of z = (sum of codewords) A + b; `sums` is (n, D), one for each vector.

    loss = KL(softmax(score(q, x) / t) | softmax(score(q, x_hat) / t)) + |z(x) - z|^2 / dim
    """
    generator = torch.Generator().manual_seed(seed)
    n, dim = sums.shape
    device = sums.device
    with torch.no_grad():
        latents = model.encode(vectors)
    weight, bias = torch.eye(dim, device=device).requires_grad_(), torch.zeros(dim, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=LEARNING_RATE)
    temperature = SHARPNESS * float((graph.scores[:, 0] - graph.scores[:, -1]).mean().clamp_min(1e-12))
    steps = min(STEPS, n // 20)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2
        picked = torch.randint(len(graph.queries), (STEP_QUERIES,), generator=generator).to(device)
        columns = torch.randint(graph.neighbours.shape[1], (STEP_NEAR,), generator=generator).to(device)
        others = torch.randint(n, (STEP_QUERIES, STEP_OTHERS), generator=generator).to(device)
        rows = torch.cat((graph.neighbours[picked][:, columns], others), dim=1)
        queries, exact = vectors[graph.queries[picked]], latents[rows]
        decoded = sums[rows] @ weight + bias
        wanted = (model.scores(queries, exact, metric) / temperature).log_softmax(dim=1)
        found = (model.scores(queries, decoded, metric) / temperature).log_softmax(dim=1)
        disorder = torch.nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
        loss = disorder + (exact - decoded).square().sum(dim=2).mean() / model.dim
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        between()
    return weight.detach(), bias.detach()
