"""Adam (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015). Knows no model and no rate's course.

The steps are PyTorch's own; its class `torch.optim.Adam` is not used because the making of one imports the compiler
behind `torch.compile`: as long as PyTorch itself takes, in every process that trains.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

Moments = dict[str, Tensor]
"""Of one tensor: the steps taken, and the running means of its gradient and of its square."""


class Adam:
    """Steps of tensors along their gradients."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = list(tensors)
        self.moments: dict[int, Moments] = {}
        """By place among the tensors; none before the first step."""

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Takes one step with every gradient that is there, and clears it."""
        places = [place for place, tensor in enumerate(self.tensors) if tensor.grad is not None]
        stepped = [self.tensors[place] for place in places]
        for place, tensor in zip(places, stepped, strict=True):
            if place not in self.moments:
                zeros = {name: torch.zeros_like(tensor) for name in ("exp_avg", "exp_avg_sq")}
                self.moments[place] = {"step": torch.zeros(()), **zeros}
        moments = [self.moments[place] for place in places]
        adam(
            stepped,
            [tensor.grad for tensor in stepped if tensor.grad is not None],
            [of["exp_avg"] for of in moments],
            [of["exp_avg_sq"] for of in moments],
            [],
            [of["step"] for of in moments],
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
        for tensor in stepped:
            tensor.grad = None

    def restore(self, moments: Mapping[int, Moments]) -> None:
        """Goes on from what `moments` was; the count of steps stays off the device."""
        self.moments = {place: {**of, "step": of["step"].cpu()} for place, of in moments.items()}
