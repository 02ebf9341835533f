"""The one training loop. Knows no architecture: a model brings `start`, `loss`, `error` and `settle`."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.adam import Adam
from models.autoencoder import Autoencoder
from models.checkpoint import Checkpoint, Epoch, copied
from models.device import device_named
from models.errors import TooFewVectors
from models.metric import Vectors
from models.training_config import TrainingConfig

TELL_SECONDS = 1.0
"""Between calls of `progress` within an epoch."""
FEWEST = 16
"""Below this many vectors there is nothing to hold out."""


class TrainingRun(NamedTuple):
    """What happened."""

    epochs: list[Epoch]
    best: Epoch
    """The epoch whose weights were kept; number 0 is the start, before any step."""
    trained_on: int
    seconds: float


Progress = Callable[[float, Epoch], None]
"""Called after each epoch, and every second within one, with the share done (0..1) and the last whole epoch; raises
TrainingStopped to end the training."""


def train(
    model: Autoencoder,
    vectors: Vectors,
    config: TrainingConfig,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> TrainingRun:
    """Trains `model` in place on (n, D) float32, which may be a memory map: only batches of it are read.

    With `checkpoint` (a folder) the state is written after each epoch, and a training cut off goes on from there.

    Raises:
        TooFewVectors: fewer than 16.
        TrainingStopped: raised by `progress` and passed on; the last checkpoint stays.
    """
    n, _ = vectors.shape
    if n < FEWEST:
        raise TooFewVectors(f"{n} vectors are too few to train on; {FEWEST} is the least")
    device = device_named(config.device)
    order = np.random.default_rng(config.seed).permutation(n)
    held_count = min(max(1, int(n * config.held_out)), 5_000)
    held_rows, rows = np.sort(order[:held_count]), order[held_count:]
    held = _batch(vectors, held_rows, device)
    sample = _batch(vectors, np.sort(rows[: config.start_sample]), device)

    model.to(device)
    with torch.no_grad():
        model.start(sample, _generator(config.seed, 0, device))
        model.settle(sample)
    adam = Adam(model.parameters())
    began, before = time.monotonic(), 0.0
    start_error = _held_out_error(model, held)
    epochs = [Epoch(0, 0.0, start_error, start_error)]
    best, best_state = epochs[0], copied(model.state_dict())
    saved = Checkpoint(checkpoint) if checkpoint is not None else None
    if saved is not None and saved.exists():
        epochs, best, best_state = saved.load(model, adam, device)
        before = epochs[-1].seconds

    told = time.monotonic()
    batch_size = max(1, min(config.batch_size, len(rows) // 10))
    batches = math.ceil(len(rows) / batch_size)
    for number in range(epochs[-1].number + 1, config.epochs + 1):
        seconds = before + time.monotonic() - began
        if number - 1 - best.number >= config.patience or _share(config, number - 1, seconds) >= 1:
            break
        # All that is random in an epoch comes from (seed, epoch): a resumed training repeats an uninterrupted one.
        generator = _generator(config.seed, number, device)
        shuffled = np.random.default_rng((config.seed, number)).permutation(rows)
        losses = torch.zeros((), device=device)
        for step in range(batches):
            done = _share(config, number - 1 + step / batches, before + time.monotonic() - began)
            x = _batch(vectors, np.sort(shuffled[step * batch_size : (step + 1) * batch_size]), device)
            loss = model.loss(x, generator)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step(config.learning_rate * (1 + math.cos(math.pi * done)) / 2)
            losses += loss.detach()
            if progress is not None and time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                progress(done, epochs[-1])
        with torch.no_grad():
            model.settle(sample)
        seconds = before + time.monotonic() - began
        epochs.append(Epoch(number, seconds, float(losses) / batches, _held_out_error(model, held)))
        if epochs[-1].held_out_error < best.held_out_error:
            best, best_state = epochs[-1], copied(model.state_dict())
        if saved is not None:
            saved.save(model, adam, epochs, best, best_state)
        if progress is not None:
            progress(_share(config, number, seconds), epochs[-1])
    model.load_state_dict(best_state)
    model.cpu().eval()
    return TrainingRun(epochs, best, len(rows), before + time.monotonic() - began)


def _generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed * 1_000_003 + epoch)


def _batch(vectors: Vectors, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(vectors[rows], dtype=np.float32)).to(device)


def _share(config: TrainingConfig, epochs: float, seconds: float) -> float:
    by_time = seconds / (60 * config.minutes) if config.minutes is not None else 0.0
    return min(1.0, max(epochs / config.epochs, by_time))


def _held_out_error(model: Autoencoder, held: Tensor) -> float:
    with torch.inference_mode():
        return float(model.error(held))
