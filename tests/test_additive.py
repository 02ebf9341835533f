"""The search for additive codes: what it finds, and that it finds the same in any company."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.additive import Tables, least, searched, widths
from tests.test_beam import TARGETS, WORDS, drawn, errors


def test_a_beam_of_everything_finds_the_best_sum() -> None:
    every = torch.tensor(list(itertools.product(range(8), repeat=3)), dtype=torch.uint8)
    sums = torch.stack([WORDS[m][every[:, m].long()] for m in range(3)]).sum(dim=0)
    best = torch.cdist(TARGETS, sums).square().amin(dim=1)
    np.testing.assert_allclose(errors(searched(TARGETS, Tables.of(WORDS), 64)), best, rtol=1e-4, atol=1e-5)


def test_a_wider_beam_leaves_less() -> None:
    tables = Tables.of(WORDS)
    means = [float(errors(searched(TARGETS, tables, width)).mean()) for width in (1, 4, 16)]
    assert means[0] > 1.05 * means[1] > 1.05 * means[2]


@given(st.integers(0, 199), st.integers(1, 200))
def test_a_code_is_the_same_in_any_company(first: int, count: int) -> None:
    tables = Tables.of(WORDS)
    together = searched(TARGETS, tables, 4)
    assert torch.equal(searched(TARGETS[first : first + count], tables, 4), together[first : first + count])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_vectors_does_not_matter(scale: float) -> None:
    assert torch.equal(searched(TARGETS * scale, Tables.of(WORDS * scale), 4), searched(TARGETS, Tables.of(WORDS), 4))


def test_zeros_and_equal_codewords_are_no_trouble() -> None:
    tables = Tables.of(torch.zeros(2, 8, 12))
    assert searched(torch.zeros(3, 12), tables, 4).shape == (3, 2)
    np.testing.assert_allclose(errors(searched(TARGETS, tables, 4), torch.zeros(2, 8, 12)), TARGETS.square().sum(dim=1))
    assert searched(TARGETS[:0], tables, 4).shape == (0, 2)


def test_an_outlier_among_the_codewords_spoils_no_other() -> None:
    words = WORDS.clone()
    words[0, 3] *= 1e5
    kept = errors(searched(TARGETS, Tables.of(words), 16), words)
    assert float(kept.mean()) < 1.2 * float(errors(searched(TARGETS, Tables.of(WORDS), 16)).mean())


def test_it_is_wide_where_it_begins_and_narrow_where_it_ends() -> None:
    assert widths(32, 4) == [64, 44, 24, 4]
    assert widths(32, 1) == [64]
    assert widths(1, 3) == [2, 1, 1]


@pytest.mark.parametrize(("length", "count"), [(512, 32), (512, 33), (500, 3), (8192, 32), (16, 16)])
def test_the_least_are_found_in_any_order(length: int, count: int) -> None:
    values = drawn(7, length)
    found, places = least(values, count)
    assert torch.equal(found.sort(dim=1).values, values.sort(dim=1).values[:, :count])
    assert torch.equal(values.gather(1, places), found)


def test_a_residual_of_a_ten_thousandth_is_still_described() -> None:
    words = torch.cat((drawn(1, 8, 12) * 1e2, drawn(1, 8, 12) * 1e-1))
    targets = words[0][torch.arange(200) % 8] + words[1][torch.arange(200) // 8 % 8]
    assert float(errors(searched(targets, Tables.of(words), 16), words, targets).max()) < 1e-4
