"""What a build is asked for. Knows no step of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import Metric
from service.builds.inputs import Reading
from service.builds.remote_folder import RemoteFolder
from service.codec_spec import TrainingSpec

BYTES_A_NUMBER = 48
"""RAM that a number of a block takes at most while it is read, checked and encoded in float64."""
FEWEST_BLOCK_ROWS, MOST_BLOCK_ROWS = 256, 16_384


@dataclass(frozen=True)
class BuildConfig:
    """What a build is to do."""

    inputs: tuple[str, ...]
    """Paths, URLs, globs, folders of saved datasets, tables."""
    output: Path
    reading: Reading = field(default_factory=Reading)
    codec: tuple[tuple[str, Any], ...] = ()
    """Kind and bytes, as a training's request has them; none keeps the folder's codec, or trains the default one."""
    metric: Metric | None = None
    """None: the folder's, or cosine."""
    training: TrainingSpec = field(default_factory=TrainingSpec)
    train_sample: int = 200_000
    codec_from: Path | None = None
    """Another built folder whose codec is used; nothing is trained."""
    retrain: bool = False
    workers: int = 1
    cluster: str | None = None
    """Address of the Ray cluster whose nodes encode, instead of workers here."""
    part_rows: int = 50_000
    """Rows of a shard, about."""
    memory_bytes: int = 4 * 1024**3
    """For vectors held at once by all processes; codes, index and libraries come on top."""
    max_rejects: int | None = None
    remote: RemoteFolder | None = None
    """Where the folder comes from and goes to."""

    @property
    def work(self) -> Path:
        """Folder of what is not whole yet; gone at the end."""
        return self.output / "work"

    @property
    def copies(self) -> Path:
        """Folder of inputs that cannot be read where they are; gone at the end."""
        return self.output / "copies"

    def block_rows(self, dim: int) -> int:
        """Rows of `dim` numbers that a process reads at once."""
        fitting = self.memory_bytes // ((self.workers + 1) * BYTES_A_NUMBER * dim)
        return max(FEWEST_BLOCK_ROWS, min(fitting, MOST_BLOCK_ROWS))
