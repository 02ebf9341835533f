"""The pictures of one training: which ones a codec's kind has, and the numbers in them. Knows no job and no server.

Needs the extra `plots`, as `models.plots` does; `can_draw` says whether it is there.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import plots
from models.codec import Codec
from models.configs import BinaryConfig, DenseConfig, LatentType, SparseConfig
from models.corruption import Corruption, CorruptionKind
from models.factory import QuantizerConfig
from models.metric import Vectors
from models.scalar_code import ScalarCode
from models.training import TrainingRun

SAMPLE, DOTS = 4_000, 1_500
"""Training vectors that are looked at, and how many of them are drawn, at most."""
WIDEST = 2_048
"""Longest vector whose principal axes are computed for a picture: beyond it, they take longer than all the others."""
LATENTS_MAPPED = 2_048
"""Latents of which a map is drawn; of longer ones, the decoded vectors stand for the codes."""
FAR = 3.0
"""Standard deviations of the data that noise leads away from it along the second axis of a denoising field."""
ARROWS = 250
"""Of a denoising field."""


class Portrait:
    """A trained codec, seen on (n, D) training vectors and on (q, D) held-out ones, both prepared for the metric."""

    def __init__(self, codec: Codec, run: TrainingRun, sample: Vectors, held_out: Vectors) -> None:
        self._codec = codec
        self._config: Any = getattr(codec, "config", None)
        self._run = run
        self._sample = np.asarray(_spread(sample, SAMPLE))
        self._held_out = held_out
        self._mean = self._sample.mean(axis=0)
        self._variance = float(np.square(self._sample - self._mean).mean()) or 1.0

    def draw(self, folder: Path) -> dict[str, Path]:
        """Writes a PNG for each picture that the kind has; returns the files by the pictures' names."""
        drawn = {}
        for name, picture in self._pictures():
            path = folder / f"{name}.png"
            picture(path)
            drawn[name] = path
        return drawn

    def _pictures(self) -> Iterator[tuple[str, Callable[[Path], Any]]]:
        dim = self._codec.dim
        if not isinstance(self._config, QuantizerConfig):  # FAISS trains in one go and tells no loss
            yield "loss", self.loss
        if 2 <= dim <= WIDEST:
            yield "spectrum", self.spectrum
            yield "size", self.size
            yield "map", self.map
        if isinstance(self._config, SparseConfig):
            yield "activity", self.activity
        if isinstance(self._config, BinaryConfig):
            yield "bits", self.bits
        if self._corruption.kind is not CorruptionKind.NONE and 2 <= dim <= WIDEST:
            yield "field", self.field

    def loss(self, path: Path) -> Any:
        """Loss and held-out error by epoch."""
        losses, errors = zip(*((epoch.loss, epoch.held_out_error) for epoch in self._run.epochs), strict=True)
        binary = isinstance(self._config, BinaryConfig) and self._config.similarity > 0
        unit = "variance, and order of neighbours" if binary else "share of variance"
        return plots.loss_curve(path, losses, errors, self._run.best.number, unit)

    def spectrum(self, path: Path) -> Any:
        """What the code loses of each principal axis, against PCA with the latents that fit its bytes as int4."""
        return plots.spectrum(path, self._sample, self._codec.decode(self._codes), 2 * self._codec.code_bytes)

    def size(self, path: Path) -> Any:
        """Held-out error of this codec, and of PCA with an eighth to four times its bytes."""
        own = self._codec.code_bytes
        sizes = {round(own * share) for share in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)}
        possible = sorted(size for size in sizes if 1 <= size <= max(1, self._codec.dim // 2))
        left = self._held_out - self._codec.decode(self._codec.encode(self._held_out))
        errors = {own: float(np.square(left).mean()) / self._variance}
        name = self._config.factory if isinstance(self._config, QuantizerConfig) else self._codec.kind
        return plots.error_by_size(path, {"PCA, int4": self._pca_errors(possible), name: errors})

    def map(self, path: Path) -> Any:
        """The codes along their two leading axes."""
        latents = getattr(self._config, "latents", getattr(self._config, "bits", 0))
        if 2 <= latents <= LATENTS_MAPPED:
            return plots.code_map(path, self._codec.stored_latents(_spread(self._codes, DOTS)))
        return plots.code_map(path, self._codec.decode(_spread(self._codes, DOTS)))

    def activity(self, path: Path) -> Any:
        """How many vectors each latent of a sparse code is active for."""
        k, latents = self._config.k, self._config.latents
        indices, values = np.ascontiguousarray(self._codes[:, : 2 * k]).view("<u2"), self._codes[:, 2 * k :]
        return plots.latent_activity(path, np.bincount(indices[values > 0], minlength=latents), len(self._codes))

    def bits(self, path: Path) -> Any:
        """How often each bit is set."""
        return plots.bit_balance(path, self._codes)

    def field(self, path: Path) -> Any:
        """Where vectors with training's noise are brought, in a plane of two principal axes.

        The first one is that of most variance, the second one the first in which noise leads FAR away from the data;
        in two dimensions these are all there is.
        """
        data, clean, spread = _spread(self._sample, DOTS), _spread(self._sample, ARROWS), np.sqrt(self._variance)
        standard = torch.from_numpy((clean - self._mean) / spread)
        noisy = self._corruption(standard, torch.Generator().manual_seed(0)).numpy() * spread + self._mean
        noisy = self._codec.checked(noisy.astype(np.float32))
        restored = self._codec.decode(self._codec.encode(noisy))
        variances, axes = self._axes
        noise = np.square((noisy - clean) @ axes[:, 1:]).mean(axis=0)
        lengths = noise / np.maximum(variances[1:], max(variances[0] * 1e-9, 1e-30))
        second = 1 + int((lengths >= FAR**2).argmax() if (lengths >= FAR**2).any() else lengths.argmax())
        data, points, ends = ((vectors - self._mean) @ axes[:, [0, second]] for vectors in (data, noisy, restored))
        return plots.denoising_field(path, data, points, ends, ("principal axis 1", f"principal axis {second + 1}"))

    @cached_property
    def _codes(self) -> Any:
        return self._codec.encode(self._sample)

    @property
    def _corruption(self) -> Corruption:
        dense = isinstance(self._config, DenseConfig)
        return self._config.corruption if dense else Corruption(CorruptionKind.NONE, 0.0)

    @cached_property
    def _axes(self) -> tuple[Any, Any]:
        """Variances and (D, D) principal axes of the sample, the greatest first."""
        centred = self._sample - self._mean
        variances, axes = np.linalg.eigh(np.asarray(centred.T @ centred / len(centred), np.float64))
        return variances[::-1], axes[:, ::-1]

    def _pca_errors(self, sizes: list[int]) -> dict[int, float]:
        """Error of PCA with two int4 latents a byte, rotated so that one grid fits all, by bytes."""
        errors = {}
        for size in sizes:
            m = 2 * size
            rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((m, m)))[0]
            basis = (self._axes[1][:, :m] @ rotation).astype(np.float32)
            code = ScalarCode(m, LatentType.INT4)
            code.fit(torch.from_numpy((self._sample - self._mean) @ basis))
            latents = torch.from_numpy((self._held_out - self._mean) @ basis)
            restored = code.unpack(code.pack(latents)).numpy() @ basis.T + self._mean
            errors[size] = float(np.square(self._held_out - restored).mean()) / self._variance
        return errors


def _spread(vectors: Any, most: int) -> Any:
    """Evenly spaced rows, `most` at most."""
    return vectors[np.linspace(0, len(vectors) - 1, min(most, len(vectors))).astype(np.int64)]


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None
