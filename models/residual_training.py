"""Grows a residual autoencoder step by step, refits it, and trains its decoder for neighbours. Knows no index."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from models.additive import MAPPED, searched
from models.beam import BLOCK, Beam, Codebooks
from models.blocks import mapped
from models.checkpoint import Epoch
from models.configs import CODEWORDS, ResidualConfig
from models.device import device_named
from models.distillation import Effort, Graph, distilled, neighbour_graph
from models.errors import BadConfig, TooFewVectors
from models.evaluation import exact_neighbours, recall
from models.grown import Grown
from models.importance import weights
from models.kmeans import codebook
from models.least_squares import refitted
from models.lengths import fit_errors, fit_lengths
from models.metric import Metric, Vectors
from models.residual import ResidualAutoencoder
from models.scalar_code import HALF
from models.training import FEWEST, TELL_SECONDS, Progress, TrainingRun
from models.training_config import TrainingConfig

T = TypeVar("T")

MOST_VECTORS = 200_000
"""Trained on: a codeword of the last of 32 steps is then the mean of 780 residuals."""
MOST_RESIDUALS = 250_000
"""That a codebook is trained on: those of all codes in the beams, not of the best ones alone, which it would learn by
heart and fit vectors never seen the worse for it."""
WEIGHING = 1_000
"""Vectors whose neighbours tell what errors cost."""
ITERATIONS = 5
"""Of k-means in each doubling of the components."""
PROJECTED = 4_096
"""Vectors projected to their principal axes at once."""
REFITS = 2
GROWING, REFITTING = 0.5, 0.35
"""Shares of the time that codebooks take to grow, and to be refitted; the rest goes to the decoder, if any."""
TIMED_STEP, FEWEST_TIMED = 2, 1_024
"""The first step that takes as long as all later ones, and the vectors that are taken however little time there is."""
FEWEST_TELLING = 100
"""Held-out vectors whose recall tells two decoders apart."""
LATE_QUERIES, LATE_K = 4_000, 10
"""A decoder gains about .004: of 500 queries it could not be told from chance."""


def vectors_within(memory_bytes: int, config: ResidualConfig) -> int:
    """How many vectors a training can take where the beams of all of them, the vectors' projections and three times the
    residuals that a codebook is trained on are held at once.
    """
    number, width = 4 * config.components, config.training_beam
    held, learned = number * (width + 1), 3 * number
    few = memory_bytes // (held + learned * width)  # all residuals are learned from
    return max(few, (memory_bytes - learned * MOST_RESIDUALS) // held)


def train_residual(
    model: ResidualAutoencoder,
    vectors: Vectors,
    metric: Metric,
    config: TrainingConfig,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> TrainingRun:
    """Trains `model` in place on (n, dim) float32, which may be a memory map; reads at most 200,000 of them.

    Of the configuration it takes `held_out`, `start_sample`, `seed`, `minutes` and `device`; no gradient descends the
    codebooks. What is random is drawn on the processor: CUDA ends in about the same codebooks.

    The curve has a point a step, one or two for the refitted codebooks and one for the finished codec: the error of the
    vectors trained on and of those held out. With `minutes` as many vectors are taken as that time allows, 1,024 at
    least. With `checkpoint` (a folder) each step is saved, and a training cut off goes on from there to the same
    codebooks.

    Raises:
        BadConfig: an error byte is asked for under another metric than l2.
        TooFewVectors: fewer than 16, or fewer than 2 that are not held out.
        TrainingStopped: raised by `progress` and passed on; the last checkpoint stays.
    """
    n, _ = vectors.shape
    if model.config.error_byte and metric is not Metric.L2:
        raise BadConfig("error_byte", f"scores by {metric} do not gain by it: leave it out")
    if n < FEWEST:
        raise TooFewVectors(f"{n} vectors are too few to train on; {FEWEST} is the least")
    order = np.random.default_rng(config.seed).permutation(n)
    held_count = min(max(1, int(n * config.held_out)), 5_000)
    held, rows = vectors[np.sort(order[:held_count])], vectors[np.sort(order[held_count:][:MOST_VECTORS])]
    if len(rows) < 2:
        raise TooFewVectors(f"{len(rows)} of {n} vectors are not held out; 2 is the least")
    training = _Training(model.to(device_named(config.device)), rows, held, metric, config, progress)
    with torch.no_grad():
        sample = training.placed(rows[:: -(-len(rows) // config.start_sample)])
        model.start(sample, _generator(config.seed, 0))
        training.weigh(sample)
        training.grow(Grown(checkpoint))
        training.refit()
    training.finish()
    model.eval()
    curve = training.curve
    return TrainingRun(curve, curve[-1], len(training.rows), curve[-1].seconds)


class _Training:
    """What the stages share: the vectors, how far they are, and the curve."""

    def __init__(
        self,
        model: ResidualAutoencoder,
        rows: Vectors,
        held: Vectors,
        metric: Metric,
        config: TrainingConfig,
        progress: Progress | None,
    ) -> None:
        self.model = model
        self.device = model.principal.device
        self.rows = rows
        self.held = held
        self.metric = metric
        self.config = config
        self.curve: list[Epoch] = []
        self._progress = progress
        self._threads = torch.get_num_threads()
        self._began = time.monotonic()
        self._told, self._share, self._outside = 0.0, 0.0, 0.0
        self._timed = min(TIMED_STEP, model.config.steps - 1)

    def placed(self, vectors: Vectors) -> Tensor:
        """The vectors where the model is."""
        return torch.from_numpy(vectors).to(self.device)

    def weigh(self, sample: Tensor) -> None:
        """Gives components their weights, by some neighbours among the (n, dim) sample."""
        generator = _generator(self.config.seed, 0)
        graph = neighbour_graph(sample, self.metric, generator, self._pulse, WEIGHING)
        near = Graph(graph.queries, graph.neighbours[:, :LATE_K], graph.scores[:, :LATE_K])
        self.model.weights.copy_(weights(sample, self.model.principal, near, self.metric))

    def grow(self, grown: Grown) -> None:
        """Trains one codebook after the other on what the steps before it left over."""
        model, config = self.model, self.config
        beams = [Beam.at(self._projected(part) * model.weights) for part in (self.rows, self.held)]
        kept, earlier, stride = grown.load(model)
        self._began -= earlier
        self._tell(0.0, *(self._left(beam) for beam in beams))
        started = self._began
        for m in range(model.config.steps):
            if m == self._timed + 1 and (stride := stride or self._stride(time.monotonic() - started)) > 1:
                self.rows, beams[0] = self.rows[::stride], Beam(*(part[::stride].clone() for part in beams[0]))
            started = time.monotonic()
            if m < len(kept):
                model.codebooks[m] = kept[m]
            else:
                left = beams[0].residuals.reshape(-1, model.latents)
                left = left[:: -(-len(left) // MOST_RESIDUALS)]
                words = codebook(left, CODEWORDS, ITERATIONS, _generator(config.seed, m + 1))
                model.codebooks[m] = words / model.weights
            books = Codebooks.of(model.codebooks[m : m + 1] * model.weights)
            beams = [self._stepped(beam, books) for beam in beams]
            self._tell(GROWING * (m + 1) / model.config.steps, *(self._left(beam) for beam in beams))
            if m >= len(kept):
                grown.save(model, m + 1, self.curve[-1].seconds, stride)

    def refit(self) -> None:
        """Solves all codebooks at once for the codes of a wide beam, as long as vectors never seen gain by it."""
        model, z = self.model, self._projected(self.rows)
        for number in range(REFITS):
            old, codes = model.codebooks.clone(), self._codes(self.rows)
            before = self._errors(codes)
            model.codebooks.copy_(refitted(old, codes, z))
            after = self._errors(codes)
            share = GROWING + REFITTING * (number + 1) / REFITS
            if after[1] >= before[1]:
                model.codebooks.copy_(old)
                self._tell(share, *before)
                return
            self._tell(share, *after)

    def finish(self) -> None:
        """Trains the decoder for neighbours, and fits what a shortlist asks for.

        Of fewer than a hundred held-out vectors it cannot be said whether a decoder keeps more: then none is trained.
        With an error byte scores know what one would make up for, and none gains (docs/decisions/0032).
        """
        model, effort = self.model, Effort.on(self.device, self.config.minutes)
        rows, told, nearest = self.rows[:: -(-len(self.rows) // effort.vectors)], model.config.error_byte, 0.0
        if not told:
            vectors = self.placed(rows)
            generator = _generator(self.config.seed, model.config.steps + 1)
            graph = neighbour_graph(vectors, self.metric, generator, self._pulse, effort.queries)
            nearest = float(graph.scores[:, :LATE_K].mean())
            if len(self.held) >= FEWEST_TELLING:
                self._distil(vectors, self._codes(rows), graph, effort)
        with torch.no_grad():
            # As they will be stored, in float16: beyond what that holds there are outliers only.
            model.codebooks.copy_(model.codebooks.clamp(-HALF, HALF).half())
            codes = self._codes(rows)
            errors = self._errors(codes)
            kinds = ((rows, codes), (self.held, self._codes(self.held))) if told else ()
            left = [self._left_out(*kind).cpu() for kind in kinds]
            model.cpu()
            fit_lengths(model, codes.cpu(), nearest)
            if told:
                fit_errors(model, torch.cat(left))
            self._tell(1.0, *errors)

    def _distil(self, vectors: Tensor, codes: Tensor, graph: Graph, effort: Effort) -> None:
        """Folds a distilled decoder into the codebooks where it keeps more neighbours of vectors never seen: what was
        learned by heart does not.
        """
        model = self.model
        with torch.no_grad():
            plain, before = model.codebooks.clone(), self._late_recall()
        seconds, seed = max(self._seconds_left() / 2, 1e-3), self.config.seed
        better = distilled(model, vectors, codes, graph, self.metric, effort, seconds, seed, self._pulse)
        with torch.no_grad():
            model.codebooks.copy_(better)
            if self._late_recall() <= before:
                model.codebooks.copy_(plain)

    def _stride(self, seconds: float) -> int:
        """Every how many-th vector to go on with, given the seconds of a step with all of them."""
        whole = seconds * (self.model.config.steps - self._timed - 1) / GROWING
        return max(1, min(int(np.ceil(whole / max(self._seconds_left(), 1e-3))), len(self.rows) // FEWEST_TIMED))

    def _seconds_left(self) -> float:
        """Of the minutes given, if any."""
        return 60 * (self.config.minutes or np.inf) - (time.monotonic() - self._began)

    def _projected(self, vectors: Vectors) -> Tensor:
        """(n, dim) to (n, D)."""

        def project(block: slice) -> Tensor:
            return self.model.encode(self.placed(vectors[block]))

        return torch.cat(self._mapped(project, len(vectors), PROJECTED))

    def _codes(self, vectors: Vectors) -> Tensor:
        """(n, dim) to (n, M) codes, on all threads."""
        z, beam = self._projected(vectors) * self.model.weights, self.model.config.refit_beam
        tables = self.model.searched()
        return torch.cat(self._mapped(lambda block: searched(z[block], tables, beam), len(z), MAPPED))

    def _mapped(self, work: Callable[[slice], T], n: int, size: int) -> list[T]:
        return mapped(work, n, size, self._threads, self._pulse, self.device)

    def _stepped(self, beam: Beam, books: Codebooks) -> Beam:
        """The next beam, in the residuals of `beam` where that is as wide: both of them would be twice the most that a
        training holds.
        """
        n, before, dim = beam.residuals.shape
        width = min(self.model.config.training_beam, before * CODEWORDS)
        residuals = beam.residuals if before == width else beam.residuals.new_empty((n, width, dim))
        errors = beam.errors.new_empty((n, width))
        codes = beam.codes.new_empty((n, width, beam.codes.shape[2] + 1))

        def step(block: slice) -> None:
            taken = Beam(*(part[block] for part in beam)).step(books, 0, width).ordered()
            residuals[block], errors[block], codes[block] = taken

        self._mapped(step, n, BLOCK)
        return Beam(residuals, errors, codes)

    def _left(self, beam: Beam) -> float:
        """The squared error of the best codes in the beam, within the principal axes."""
        return float((beam.residuals[:, 0] / self.model.weights).square().sum(dim=1).mean())

    def _errors(self, codes: Tensor) -> tuple[float, float]:
        """Within the principal axes: of evenly spaced vectors trained on, which have `codes`, and of those held out."""
        rows = self.rows[:: -(-len(self.rows) // len(codes))]
        pairs = ((rows, codes), (self.held, self._codes(self.held)))
        seen, held = (self._projected(part) - self.model.unpack(own) for part, own in pairs)
        return float(seen.square().sum(dim=1).mean()), float(held.square().sum(dim=1).mean())

    def _tell(self, share: float, error: float, held_error: float) -> None:
        """Errors within the principal axes to shares of the whole variance, on the curve and to who asked for it."""
        if not self.curve:
            held = self.placed(self.held)
            inside = self.model.encode(held).square().sum(dim=1)
            self._outside = float((self.model.standardized(held).square().sum(dim=1) - inside).mean())
        shares = ((value + self._outside) / self.model.dim for value in (error, held_error))
        self.curve.append(Epoch(len(self.curve), time.monotonic() - self._began, *shares))
        self._share, self._told = share, 0.0
        self._pulse()

    def _pulse(self) -> None:
        """Says how far it is, at most once a second: whoever listens may also end the training."""
        if self._progress is not None and self.curve and time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            self._progress(self._share, self.curve[-1])

    def _left_out(self, vectors: Vectors, codes: Tensor) -> Tensor:
        """(n, dim) and their codes to the (n,) squared errors of these, in units of the scale."""

        def left(block: slice) -> Tensor:
            h = self.model.standardized(self.placed(vectors[block]))
            return (h - self.model.unpack(codes[block]) @ self.model.principal.T).square().sum(dim=1)

        return torch.cat(self._mapped(left, len(vectors), PROJECTED))

    def _late_recall(self) -> float:
        """recall@10 among the held-out vectors alone, through their codes; vectors trained on ask."""
        queries = self.rows[:: -(-len(self.rows) // LATE_QUERIES)]
        decoded = self.model.decode(self.model.unpack(self._codes(self.held))).cpu().numpy()
        found, truth = (exact_neighbours(base, queries, LATE_K, self.metric).rows for base in (decoded, self.held))
        return float(recall(found, truth).mean())


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
