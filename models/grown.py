"""A residual autoencoder's training cut off anywhere goes on from its last whole step. Knows no training."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


class Grown:
    """The codebooks trained so far, in a folder; nowhere without one."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def load(self) -> tuple[Tensor, float]:
        """(m, 256, D) codebooks, none at first, and the seconds that they took."""
        if self.folder is None or not (path := self.folder / "codebooks.safetensors").exists():
            return torch.empty(0), 0.0
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("codebooks"), json.loads(file.metadata()["training"])["seconds"]

    def save(self, codebooks: Tensor, seconds: float) -> None:
        """Replaces what is there once the new file is whole."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "draft.safetensors"
        save_file({"codebooks": codebooks.contiguous()}, draft, {"training": json.dumps({"seconds": seconds})})
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self.folder / "codebooks.safetensors")
