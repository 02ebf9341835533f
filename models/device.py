"""Where tensors are computed with: the processor, or CUDA. Knows no model."""

import torch

from models.errors import BadConfig

NAMES = ("auto", "cpu", "cuda")


def device_named(name: str) -> torch.device:
    """The processor by "cpu", CUDA by "cuda"; by "auto" CUDA where there is one.

    Raises:
        BadConfig: another name, or CUDA where there is none.
    """
    if name not in NAMES:
        raise BadConfig("device", f"{name!r} is none of {', '.join(NAMES)}")
    there = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not there:
        raise BadConfig("device", "PyTorch finds no CUDA device here; 'auto' takes the processor then")
    return torch.device("cuda" if there else "cpu")
