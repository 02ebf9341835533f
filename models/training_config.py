"""How a training goes about it. Knows no network: importing it imports no torch."""

from dataclasses import dataclass

from models.errors import BadConfig


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast."""

    epochs: int = 20
    """Passes over the training vectors, at most."""
    batch_size: int = 256
    """Vectors a step; a tenth of the vectors where there are few."""
    learning_rate: float = 2e-3
    """Adam's, falling to 0 along half a cosine."""
    patience: int = 5
    """Epochs without a better held-out error after which training ends."""
    held_out: float = 0.05
    """Share of the vectors set apart to measure on, 5,000 at most."""
    start_sample: int = 50_000
    """Vectors that the data-dependent start and the quantiser's ranges look at."""
    seed: int = 0
    """Same seed, same vectors, same machine: same codec."""
    minutes: float | None = None
    """Ends training after this long, with the learning rate falling accordingly."""
    device: str = "auto"
    """"cpu", "cuda" or "auto": CUDA where there is one."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "patience", "start_sample"):
            if not getattr(self, name) > 0:
                raise BadConfig(name, f"{getattr(self, name)} is not above 0")
        if not 0 < self.held_out < 1:
            raise BadConfig("held_out", f"{self.held_out} is not between 0 and 1")
        if self.minutes is not None and not self.minutes > 0:
            raise BadConfig("minutes", f"{self.minutes} is not above 0")
