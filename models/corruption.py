"""The c of x + c: noise that a denoising autoencoder learns to take out again. Knows no architecture.

Vincent et al., "Stacked Denoising Autoencoders", JMLR 2010, section 3.2.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from models.errors import BadConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EXTREME = 2.0
"""Salt and pepper, in standard deviations from the mean."""


class CorruptionKind(StrEnum):
    """Which noise."""

    NONE = "none"
    GAUSSIAN = "gaussian"
    """c ~ N(0, level^2) in every component."""
    MASKING = "masking"
    """A share `level` of the components is set to the mean."""
    SALT_AND_PEPPER = "salt-and-pepper"
    """A share `level` of the components is set to a very high or very low value, by a fair coin."""


@dataclass(frozen=True)
class Corruption:
    """Noise on standardised inputs (mean 0, average variance 1)."""

    kind: CorruptionKind = CorruptionKind.GAUSSIAN
    """Which noise."""
    level: float = 0.1
    """Standard deviation (gaussian) or share of components (masking, salt-and-pepper)."""

    def __post_init__(self) -> None:
        highest = 10.0 if self.kind is CorruptionKind.GAUSSIAN else 1.0
        if not 0 <= self.level <= highest:
            raise BadConfig("corruption.level", f"{self.level} is not between 0 and {highest:g} for {self.kind}")

    def __call__(self, x: "Tensor", generator: "torch.Generator") -> "Tensor":
        """X + c, with c drawn from `generator`. (n, D) to (n, D); x itself is not changed."""
        import torch  # a configuration that is only read needs none of it

        if self.kind is CorruptionKind.NONE or self.level == 0:
            return x
        if self.kind is CorruptionKind.GAUSSIAN:
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            return x + self.level * noise
        draw = torch.rand(x.shape, generator=generator, device=x.device)
        if self.kind is CorruptionKind.MASKING:
            return torch.where(draw < self.level, 0.0, x)
        # One draw decides both whether and which way: its lower half is pepper, its upper half salt.
        salted = torch.where(draw < self.level, EXTREME, x)
        return torch.where(draw < self.level / 2, -EXTREME, salted)
