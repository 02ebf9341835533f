"""m floats as bytes: float16, int8, or int4 two to a byte, as FAISS's ScalarQuantizer reads them. Knows no network."""

import torch
from torch import Tensor, nn

from models.configs import LatentType
from models.space import ScalarSpace

HALF = 65_504.0
"""The largest float16."""


class ScalarCode(nn.Module):
    """Each latent on its own even grid of L + 1 = 2^bits values.

        c = floor((z - low) L / width),   z_hat = low + width (c + 1/2) / L

    The grid is that of FAISS's non-uniform scalar quantiser, so an IndexScalarQuantizer given `low` and `width`
    decodes these bytes to these very values. float16 needs no grid.
    """

    low: Tensor
    width: Tensor

    def __init__(self, latents: int, latent_type: LatentType) -> None:
        super().__init__()
        self.latents = latents
        self.latent_type = latent_type
        self.levels = 2**latent_type.bits - 1
        self.register_buffer("low", torch.full((latents,), -1.0))
        self.register_buffer("width", torch.full((latents,), 2.0))

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.latent_type.code_bytes(self.latents)

    def space(self) -> ScalarSpace:
        """The grids as an index reads them."""
        return ScalarSpace(self.latent_type.bits, self.low.float().numpy(), self.width.float().numpy())

    def steps(self, z: Tensor) -> Tensor:
        """The grid position of each latent, a whole number in 0..L, as float. (n, m) to (n, m)."""
        return torch.floor((z - self.low) * (self.levels / self.width)).clamp(0, self.levels)

    def values(self, steps: Tensor) -> Tensor:
        """The latent that each grid position stands for. (n, m) to (n, m)."""
        values: Tensor = self.low + (steps + 0.5) * (self.width / self.levels)
        return values

    def fit(self, z: Tensor) -> None:
        """Chooses each latent's range on an (n, m) sample: the symmetric clipping with the least squared error."""
        if self.latent_type is LatentType.FLOAT16:
            return
        middle = z.mean(dim=0)
        reach = (z - middle).abs().amax(dim=0).clamp_min(1e-12)
        best = torch.full_like(reach, torch.inf)
        low, width = self.low.clone(), self.width.clone()
        for share in torch.linspace(0.3, 1.0, 29, dtype=z.dtype):
            # L + 1 cells of width/L each: the grid is centred on the middle and its outer cells end at share * reach.
            cell = 2 * share * reach / (self.levels + 1)
            self.width.copy_(cell * self.levels)
            self.low.copy_(middle - share * reach)
            error = (self.values(self.steps(z)) - z).square().mean(dim=0)
            better = error < best
            best = torch.where(better, error, best)
            low, width = torch.where(better, self.low, low), torch.where(better, self.width, width)
        self.low.copy_(low)
        self.width.copy_(width)

    def pack(self, z: Tensor) -> Tensor:
        """(n, m) latents to (n, code_bytes) uint8; int4 puts the even latent into the low half of its byte."""
        if self.latent_type is LatentType.FLOAT16:
            return z.clamp(-HALF, HALF).to(torch.float16).contiguous().view(torch.uint8)
        steps = self.steps(z).to(torch.uint8)
        if self.latent_type is LatentType.INT8:
            return steps
        if self.latents % 2:
            steps = nn.functional.pad(steps, (0, 1))
        return steps[:, 0::2] | (steps[:, 1::2] << 4)

    def unpack(self, codes: Tensor) -> Tensor:
        """(n, code_bytes) uint8 to (n, m) latents."""
        if self.latent_type is LatentType.FLOAT16:
            return codes.contiguous().view(torch.float16).to(self.low.dtype)
        if self.latent_type is LatentType.INT4:
            codes = torch.stack((codes & 0xF, codes >> 4), dim=2).flatten(1)[:, : self.latents]
        return self.values(codes.to(self.low.dtype))
