"""What an error along each component costs among neighbours. Knows no codes and no training."""

from torch import Tensor

from models.distillation import Graph
from models.metric import Metric

POWER = 0.5
"""1 keeps most of the order of neighbours if only that counted; less gives back some of the squared error."""
LEAST = 1e-3
"""Of the mean: a component that never varies has a weight all the same."""


def weights(vectors: Tensor, principal: Tensor, graph: Graph, metric: Metric) -> Tensor:
    """(n, dim) prepared vectors, their (dim, D) axes and some neighbours to the (D,) weights of the components.

    An error e of x changes a score by <d, e>, where d is what the query differs by from x: q - x under l2; under cosine
    what of q is orthogonal to x, for the rest changes the length alone; under ip q itself. Its variance is least where
    components multiplied by the root of E[d_k^2] are coded with the least squared error (for one direction, that of x:
    Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector Quantization", ICML 2020).
    """
    queries, found = vectors[graph.queries][:, None], vectors[graph.neighbours]
    if metric is Metric.L2:
        differences = queries - found
    elif metric is Metric.COSINE:
        differences = queries - graph.scores[:, :, None] * found
    else:
        differences = queries
    squares = (differences @ principal).square()
    shares = (squares / squares.sum(dim=2, keepdim=True).clamp_min(1e-30)).mean(dim=(0, 1))
    importance = shares / shares.mean().clamp_min(1e-30)
    return importance.clamp_min(LEAST) ** (POWER / 2)
