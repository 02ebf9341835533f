"""The search for additive codes: what it finds, and that it finds the same in any company."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.beam import Beam, Codebooks, searched


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


WORDS, TARGETS = drawn(3, 8, 12), drawn(200, 12, seed=1)


def errors(codes: torch.Tensor, words: torch.Tensor = WORDS, targets: torch.Tensor = TARGETS) -> torch.Tensor:
    decoded = torch.stack([words[m][codes[:, m].long()] for m in range(len(words))]).sum(dim=0)
    return (targets - decoded).square().sum(dim=1)


def test_a_beam_of_everything_finds_the_best_sum() -> None:
    every = torch.tensor(list(itertools.product(range(8), repeat=3)), dtype=torch.uint8)
    sums = torch.stack([WORDS[m][every[:, m].long()] for m in range(3)]).sum(dim=0)
    best = torch.cdist(TARGETS, sums).square().amin(dim=1)
    # Rounding to 127 levels may mistake sums that are about equally near.
    np.testing.assert_allclose(errors(searched(TARGETS, Codebooks.of(WORDS), 64)), best, rtol=0.05, atol=0.02)


def test_a_wider_beam_leaves_less() -> None:
    books = Codebooks.of(WORDS)
    means = [float(errors(searched(TARGETS, books, width)).mean()) for width in (1, 4, 16)]
    assert means[0] > 1.05 * means[1] > 1.05 * means[2]


def test_errors_are_those_of_the_codes_and_the_best_comes_first() -> None:
    beam = Beam.at(TARGETS)
    for m in range(3):
        beam = beam.step(Codebooks.of(WORDS), m, 5)
    beam = beam.ordered()
    for place in range(5):
        np.testing.assert_allclose(beam.errors[:, place], errors(beam.codes[:, place]), rtol=1e-4, atol=1e-5)
    assert (beam.errors.diff(dim=1) >= 0).all()


def test_bfloat16_and_float32_find_the_same() -> None:
    words, targets = drawn(4, 256, 300), drawn(70, 300, seed=1)
    books = Codebooks.of(words)
    codes = [
        searched(targets, books._replace(rounded=books.rounded.to(kind)), 6) for kind in (torch.bfloat16, torch.float32)
    ]
    assert torch.equal(codes[0], codes[1])


@given(st.integers(0, 199), st.integers(1, 200))
def test_a_code_is_the_same_in_any_company(first: int, count: int) -> None:
    books = Codebooks.of(WORDS)
    together = searched(TARGETS, books, 4)
    assert torch.equal(searched(TARGETS[first : first + count], books, 4), together[first : first + count])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_vectors_does_not_matter(scale: float) -> None:
    assert torch.equal(
        searched(TARGETS * scale, Codebooks.of(WORDS * scale), 4), searched(TARGETS, Codebooks.of(WORDS), 4)
    )


def test_zeros_and_equal_codewords_are_no_trouble() -> None:
    books = Codebooks.of(torch.zeros(2, 8, 12))
    assert searched(torch.zeros(3, 12), books, 4).shape == (3, 2)
    np.testing.assert_allclose(errors(searched(TARGETS, books, 4), torch.zeros(2, 8, 12)), TARGETS.square().sum(dim=1))
    assert searched(TARGETS[:0], books, 4).shape == (0, 2)


def test_an_outlier_among_the_codewords_spoils_no_other() -> None:
    words = WORDS.clone()
    words[0, 3] *= 1e5
    kept = errors(searched(TARGETS, Codebooks.of(words), 16), words)
    assert float(kept.mean()) < 1.2 * float(errors(searched(TARGETS, Codebooks.of(WORDS), 16)).mean())
