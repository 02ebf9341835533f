"""Codebooks solved for given codes."""

import numpy as np
import pytest
import torch

from models import least_squares
from models.least_squares import refitted

GENERATOR = torch.Generator().manual_seed(3)
BOOKS = torch.randn(3, 4, 5, generator=GENERATOR)
CODES = torch.randint(0, 4, (500, 3), generator=GENERATOR, dtype=torch.uint8)
TARGETS = torch.randn(500, 5, generator=GENERATOR)


PRIOR = least_squares.PRIOR + least_squares.PRIOR_SHARE * 500 / 4


def loss(books: torch.Tensor) -> float:
    sums = torch.stack([books[m][CODES[:, m].long()] for m in range(3)]).sum(dim=0)
    return float((TARGETS - sums).square().sum() + PRIOR * (books - BOOKS).square().sum())


def test_it_is_the_regularised_least_squares_solution() -> None:
    one_hot = np.zeros((500, 12))
    for m in range(3):
        one_hot[np.arange(500), 4 * m + CODES[:, m].numpy()] = 1
    root = np.sqrt(PRIOR)
    stacked = np.vstack((one_hot, root * np.eye(12)))
    wanted = np.vstack((TARGETS.numpy(), root * BOOKS.reshape(12, 5).numpy()))
    solved = np.linalg.lstsq(stacked, wanted, rcond=None)[0].reshape(3, 4, 5)
    np.testing.assert_allclose(refitted(BOOKS, CODES, TARGETS), solved, atol=1e-4)


def test_codebooks_in_groups_come_nearer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = loss(refitted(BOOKS, CODES, TARGETS))
    monkeypatch.setattr(least_squares, "GROUP", 2)
    assert whole < loss(refitted(BOOKS, CODES, TARGETS)) < loss(BOOKS)


def test_a_codeword_that_no_code_names_stays() -> None:
    codes = CODES.clone()
    codes[:, 1] = codes[:, 1].clamp_max(2)
    assert torch.equal(refitted(BOOKS, codes, TARGETS)[1, 3], BOOKS[1, 3])
