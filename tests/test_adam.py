import numpy as np
import torch
from torch import Tensor

from models.adam import Adam


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((4, 3), (5,), (2,))]


def test_its_steps_are_the_papers_before_and_after_a_restart() -> None:
    given = tensors()
    x, y = (tensor.detach().double().numpy().copy() for tensor in given[:2])
    means, squares = [np.zeros_like(x), np.zeros_like(y)], [np.zeros_like(x), np.zeros_like(y)]
    adam = Adam(given)
    for number in range(1, 21):
        if number == 11:
            restarted = Adam(given)
            restarted.restore(adam.moments)
            adam = restarted
        loss = (given[0] - 1).square().sum() + given[0].sum() * given[1].pow(3).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step(rate := 0.1 / number)
        gradients = 2 * (x - 1) + (y**3).sum(), x.sum() * 3 * y**2
        for at, (stepped, gradient) in enumerate(zip((x, y), gradients, strict=True)):
            means[at] = 0.9 * means[at] + 0.1 * gradient
            squares[at] = 0.999 * squares[at] + 0.001 * gradient**2
            mean, square = means[at] / (1 - 0.9**number), squares[at] / (1 - 0.999**number)
            stepped -= rate * mean / (np.sqrt(square) + 1e-8)
        assert all(tensor.grad is None for tensor in given)
        for ours, theirs in zip(given[:2], (x, y), strict=True):
            np.testing.assert_allclose(ours.detach(), theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(given[2], tensors()[2]), "without a gradient it stays"
