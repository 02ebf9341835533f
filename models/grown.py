"""A residual autoencoder's training cut off anywhere goes on from its last whole step. Knows no training."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.residual import ResidualAutoencoder

AXES = ("mean", "scale", "principal", "weights")


class Grown:
    """The codebooks trained so far, in a folder; nowhere without one."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def load(self, model: ResidualAutoencoder) -> tuple[Tensor, float, int]:
        """(m, 256, D) codebooks, none at first, the seconds they took, and every how many-th vector went on.

        Puts mean, scale, principal axes and weights into the model: codebooks mean something with those only. The
        stride of the vectors is 0 where it was not chosen yet.
        """
        if self.folder is None or not (path := self.folder / "codebooks.safetensors").exists():
            return torch.empty(0), 0.0, 0
        with safe_open(path, framework="pt") as file:
            for name in AXES:
                getattr(model, name).copy_(file.get_tensor(name))
            record = json.loads(file.metadata()["training"])
            return file.get_tensor("codebooks"), record["seconds"], record["stride"]

    def save(self, model: ResidualAutoencoder, steps: int, seconds: float, stride: int) -> None:
        """Replaces what is there, once the new file is whole, by the first `steps` codebooks."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "draft.safetensors"
        tensors = {name: getattr(model, name).clone() for name in AXES}
        tensors["codebooks"] = model.codebooks[:steps].clone()
        save_file(tensors, draft, {"training": json.dumps({"seconds": seconds, "stride": stride})})
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self.folder / "codebooks.safetensors")
