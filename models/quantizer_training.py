"""Has FAISS train its quantisers, and takes what they learned. Knows no index and no search."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeVar

import faiss
import numpy as np
import torch
from torch import Tensor

from models.autoencoder import Autoencoder
from models.checkpoint import Epoch
from models.configs import CODEWORDS, LatentType
from models.errors import TooFewVectors, TooLittleTime
from models.evaluation import exact_neighbours
from models.factory import BEAM, SCALARS, Shape
from models.lengths import fit_lengths
from models.metric import Metric, Vectors
from models.quantizers import Quantizer, ResidualQuantizer
from models.training import FEWEST, TELL_SECONDS, Progress, TrainingRun
from models.training_config import TrainingConfig

MOST_VECTORS, MOST_NUMBERS = 65_536, 2**25
"""Trained on: k-means takes 256 a codeword at most, and 134 MB of them are enough for whoever has longer ones."""
SEARCH_BYTES = 2**28
"""RAM for the distances of RQ's beams; FAISS would take 5 GB."""
ASKED, NEAR = 500, 10
FITTED = 10_000
"""Vectors whose codes the lengths of RQ's codewords are fitted to."""
SCALAR_TYPES = {
    LatentType.INT4: faiss.ScalarQuantizer.QT_4bit,
    LatentType.INT8: faiss.ScalarQuantizer.QT_8bit,
    LatentType.FLOAT16: faiss.ScalarQuantizer.QT_fp16,
}
T = TypeVar("T")


class Learned(NamedTuple):
    """What FAISS has learned."""

    rotation: Tensor | None
    """(dim, d), where there is a transform"""
    tables: Tensor
    """(m, 256, width) codewords of PQ and RQ; (2, d) lows and widths of SQ's grids, none for float16"""


def train_quantizer(
    model: Quantizer | ResidualQuantizer,
    vectors: Vectors,
    metric: Metric,
    config: TrainingConfig,
    *,
    progress: Progress | None = None,
) -> TrainingRun:
    """Trains a quantiser in place on (n, dim) float32, which may be a memory map; reads at most 65,536 of them.

    Of the configuration it takes `held_out`, `seed` and `minutes`: FAISS trains until it is done. The curve has two
    points, the error of the mean alone and that of the codes.

    Raises:
        TooFewVectors: fewer than 16, or fewer than 2 that are not held out.
        TooLittleTime: FAISS was not done after `minutes`.
        TrainingStopped: raised by `progress` and passed on.
    """
    began = time.monotonic()
    n, dim = vectors.shape
    if n < FEWEST:
        raise TooFewVectors(f"{n} vectors are too few to train on; {FEWEST} is the least")
    order = np.random.default_rng(config.seed).permutation(n)
    held_count = min(max(1, int(n * config.held_out)), 5_000)
    rows = order[held_count:][: min(MOST_VECTORS, max(CODEWORDS, MOST_NUMBERS // dim))]
    if len(rows) < 2:
        raise TooFewVectors(f"{len(rows)} of {n} vectors are not held out; 2 is the least")
    held, seen = (torch.from_numpy(np.array(vectors[np.sort(some)], np.float32)) for some in (order[:held_count], rows))
    with torch.no_grad():
        Autoencoder.start(model, seen, torch.Generator())
        errors = [float(model.standardized(part).square().mean()) for part in (seen, held)]
        curve = [Epoch(0, time.monotonic() - began, *errors)]
        shape, h, threads = model.config.shape(dim), model.standardized(seen).numpy(), torch.get_num_threads()

        def pulse() -> None:
            if config.minutes is not None and time.monotonic() - began > 60 * config.minutes:
                raise TooLittleTime(
                    f"FAISS had not trained {model.config.factory} after {config.minutes:g} minutes, and leaves "
                    "nothing before it has: give it more, or fewer vectors"
                )
            if progress is not None:
                progress(0.0, curve[0])

        learned = _interruptible(lambda: _learned(shape, h, config.seed, threads), pulse)
        model.take(*learned)
        if isinstance(model, ResidualQuantizer):
            _fit_lengths(model, seen, metric)
        model.settle(seen[:: -(-len(seen) // config.start_sample)])
        errors = [float(model.error(part[:: -(-len(part) // FITTED)])) for part in (seen, held)]
    curve.append(Epoch(1, time.monotonic() - began, *errors))
    if progress is not None:
        progress(1.0, curve[1])
    model.eval()
    return TrainingRun(curve, curve[1], len(rows), curve[1].seconds)


def _learned(shape: Shape, h: Vectors, seed: int, threads: int) -> Learned:
    """Trains transform and quantiser on (n, dim) standardised vectors, which are repeated where there are too few."""
    faiss.omp_set_num_threads(threads)  # it holds for the calling thread only
    h = np.ascontiguousarray(h[np.arange(max(len(h), CODEWORDS)) % len(h)])
    _, dim = h.shape
    rotation = None
    if shape.transform:
        transform = _transform(shape, dim, seed)
        transform.train(h)
        rotation = _tensor(transform.A, (shape.width, dim)).T.contiguous()
        h = np.ascontiguousarray(h @ rotation.numpy())
    if shape.quantizer in SCALARS:
        grids = faiss.ScalarQuantizer(shape.width, SCALAR_TYPES[SCALARS[shape.quantizer]])
        grids.train(h)
        return Learned(rotation, _tensor(grids.trained, (2, -1 if grids.trained.size() else 0)))
    if shape.quantizer == "PQ":
        product = _product(shape.width, shape.m, seed)
        product.train(h)
        return Learned(rotation, _tensor(product.centroids, (shape.m, CODEWORDS, shape.width // shape.m)))
    residual = faiss.ResidualQuantizer(shape.width, shape.m, 8)
    residual.max_beam_size = BEAM
    residual.max_mem_distances = SEARCH_BYTES
    residual.train_type |= faiss.ResidualQuantizer.Skip_codebook_tables  # gigabytes where there are many steps
    residual.cp.seed, residual.cp.min_points_per_centroid = seed, 1
    residual.train(h)
    return Learned(rotation, _tensor(residual.codebooks, (shape.m, CODEWORDS, shape.width)))


def _tensor(numbers: Any, shape: tuple[int, ...]) -> Tensor:
    """A copy of a vector of FAISS's."""
    return torch.from_numpy(faiss.vector_to_array(numbers)).reshape(shape)


def _transform(shape: Shape, dim: int, seed: int) -> Any:
    if shape.transform != "OPQ":
        return faiss.PCAMatrix(dim, shape.width, 0, shape.transform == "PCAR")
    transform = faiss.OPQMatrix(dim, shape.blocks, shape.width)
    transform.pq = _product(shape.width, shape.blocks, seed)
    return transform


def _product(width: int, m: int, seed: int) -> Any:
    product = faiss.ProductQuantizer(width, m, 8)
    product.cp.seed, product.cp.min_points_per_centroid = seed, 1
    return product


def _fit_lengths(model: ResidualQuantizer, seen: Tensor, metric: Metric) -> None:
    some = seen[:: -(-len(seen) // FITTED)]
    asked = some[:: -(-len(some) // ASKED)]
    scores = exact_neighbours(some.numpy(), asked.numpy(), NEAR + 1, metric).scores[:, 1:]  # the first is itself
    nearest = float(scores[np.isfinite(scores)].mean())
    fit_lengths(model, model.pack(model.encode(some)), nearest)


def _interruptible(work: Callable[[], T], pulse: Callable[[], object]) -> T:
    """What `work` returns, which has FAISS compute on another thread; what `pulse`, called each second, raises ends it.

    FAISS asks between iterations of k-means whether it is to go on.
    """
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            while not wait([working], TELL_SECONDS).done:
                pulse()
        except BaseException:
            faiss.TimeoutCallback.reset(1e-9)
            wait([working])
            raise
        finally:
            faiss.PythonInterruptCallback.reset()
        return working.result()
