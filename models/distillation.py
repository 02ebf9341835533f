"""Trains an additive decoder so that decoded vectors keep the order of neighbours. Knows no codes and no checkpoint.

Rank distillation: queries are training vectors; the softmax of decoded scores over some of a query's neighbours and
some other vectors is to be that of the exact scores (Cao et al., "Learning to Rank", ICML 2007, for the loss). The
decoder is the codewords themselves and one affine map of their sums, which folds back into them: it costs no byte and
no time.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.adam import Adam
from models.blocks import mapped
from models.metric import Metric
from models.residual import ResidualAutoencoder

NEIGHBOURS = 100
STEP_QUERIES = 64
STEP_NEAR, STEP_OTHERS = 24, 24
MAP_RATE, WORD_RATE = 1e-3, 1e-4
"""Adam's, falling to 0 along half a cosine."""
SHARPNESS = 0.25
"""The softmax's temperature, as a share of the distance between the first and the hundredth neighbour's score."""
QUERY_BLOCK = 100
LONG = 15
"""Minutes of training from which a processor's decoder is trained as long as CUDA's."""


class Effort(NamedTuple):
    """How much the decoder's training may take."""

    vectors: int
    """Trained on, at most"""
    queries: int
    """Of them, those that ask, at most"""
    steps: int
    """At most; a twentieth of the vectors where that is less"""

    @classmethod
    def on(cls, device: torch.device, minutes: float | None) -> "Effort":
        """What takes minutes on a processor, a quarter of an hour where as much is given; half a minute on CUDA."""
        if device.type != "cpu":
            return cls(200_000, 60_000, 5_000)
        return cls(50_000, 10_000, 1_500) if (minutes or 0) < LONG else cls(200_000, 30_000, 5_000)


class Graph(NamedTuple):
    """Some vectors and their true neighbours among all others."""

    queries: Tensor
    """(q,) which"""
    neighbours: Tensor
    """(q, k) which are theirs, the nearest first, themselves left out"""
    scores: Tensor
    """(q, k)"""


def neighbour_graph(
    vectors: Tensor, metric: Metric, generator: torch.Generator, between: Callable[[], None], most: int
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
    codes: Tensor,
    graph: Graph,
    metric: Metric,
    effort: Effort,
    seconds: float,
    seed: int,
    between: Callable[[], None],
) -> Tensor:
    """The (M, 256, D) codebooks that keep the order of neighbours best, for the (n, M) codes of (n, dim) vectors.

        z(c) = (sum of the codewords of c) A + b
        loss = KL(softmax(score(q, x) / t) | softmax(score(q, x_hat) / t)) + |z(x) - z(c)|^2 / dim

    The map takes long steps and the codewords short ones, over which they learn what many neighbours have in common;
    by long ones they learn vectors by heart. It ends after `seconds`, with the steps falling accordingly.
    """
    generator = torch.Generator().manual_seed(seed)
    (n, m), (_, k, dim), device = codes.shape, model.codebooks.shape, codes.device
    with torch.no_grad():
        latents = model.encode(vectors)
    words = model.codebooks.reshape(m * k, dim).clone().requires_grad_()
    weight, bias = torch.eye(dim, device=device).requires_grad_(), torch.zeros(dim, device=device, requires_grad=True)
    of_words, of_map = Adam([words]), Adam([weight, bias])
    places = codes + k * torch.arange(m, device=device)
    temperature = SHARPNESS * float((graph.scores[:, 0] - graph.scores[:, -1]).mean().clamp_min(1e-12))
    steps = min(effort.steps, n // 20)
    began = time.monotonic()
    for step in range(steps):
        done = max(step / steps, (time.monotonic() - began) / seconds)
        if done >= 1:
            break
        picked = torch.randint(len(graph.queries), (STEP_QUERIES,), generator=generator).to(device)
        columns = torch.randint(graph.neighbours.shape[1], (STEP_NEAR,), generator=generator).to(device)
        others = torch.randint(n, (STEP_QUERIES, STEP_OTHERS), generator=generator).to(device)
        rows = torch.cat((graph.neighbours[picked][:, columns], others), dim=1)
        queries, exact = vectors[graph.queries[picked]], latents[rows]
        sums = torch.nn.functional.embedding_bag(places[rows.flatten()], words, mode="sum")
        decoded = (sums @ weight + bias).reshape(exact.shape)
        wanted = (model.scores(queries, exact, metric) / temperature).log_softmax(dim=1)
        found = (model.scores(queries, decoded, metric) / temperature).log_softmax(dim=1)
        disorder = torch.nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
        loss = disorder + (exact - decoded).square().sum(dim=2).mean() / model.dim
        loss.backward()  # type: ignore[no-untyped-call]
        falling = (1 + math.cos(math.pi * done)) / 2
        of_words.step(WORD_RATE * falling)
        of_map.step(MAP_RATE * falling)
        between()
    with torch.no_grad():
        books = (words @ weight).reshape(m, k, dim)
        books[0] += bias
    return books
