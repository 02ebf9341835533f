"""A training cut off anywhere goes on from its last whole epoch. Knows the loop's state, not its steps."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.adam import Adam, Moments
from models.autoencoder import Autoencoder

State = dict[str, Tensor]


class Epoch(NamedTuple):
    """One point of the training curve."""

    number: int
    seconds: float
    """Since training began."""
    loss: float
    """Mean over the epoch's steps."""
    held_out_error: float
    """Squared error through the code, in units of the data's variance."""


def copied(state: State) -> State:
    """The weights as they are now, untouched by further steps."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


class Checkpoint:
    """A folder with the weights, the best weights and Adam's moments (safetensors) and the curve (JSON)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "training.json"

    def exists(self) -> bool:
        """Whether a whole epoch was saved."""
        return self.record.exists()

    def save(self, model: Autoencoder, adam: Adam, epochs: list[Epoch], best: Epoch, best_state: State) -> None:
        """Writes the state after `epochs[-1]`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in best_state.items()}
        for place, moments in adam.moments.items():
            tensors |= {f"adam.{place}.{name}": tensor for name, tensor in moments.items()}
        # The JSON names its weights and is replaced last: a kill between the two leaves the older pair whole.
        weights = f"epoch-{epochs[-1].number}.safetensors"
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, self.folder / weights)
        draft = self.folder / "training.json.draft"
        draft.write_text(json.dumps({"weights": weights, "epochs": epochs, "best": best}))
        for written in (self.folder / weights, draft):
            with written.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(self.record)
        for old in self.folder.glob("epoch-*.safetensors"):
            if old.name != weights:
                old.unlink()

    def load(self, model: Autoencoder, adam: Adam, device: torch.device) -> tuple[list[Epoch], Epoch, State]:
        """Puts model and moments back; returns the curve, its best epoch and that epoch's weights."""
        record = json.loads(self.record.read_text())
        parts: dict[str, State] = {"model": {}, "best": {}}
        moments: dict[int, Moments] = {}
        for name, tensor in load_file(self.folder / record["weights"], device=str(device)).items():
            part, rest = name.split(".", 1)
            if part == "adam":
                place, key = rest.split(".", 1)
                moments.setdefault(int(place), {})[key] = tensor
            else:
                parts[part][rest] = tensor
        model.load_state_dict(parts["model"])
        adam.restore(moments)
        return [Epoch(*epoch) for epoch in record["epochs"]], Epoch(*record["best"]), parts["best"]
