"""Partial codes that grow by one codebook after the other."""

import numpy as np
import torch

from models.beam import Beam, Codebooks


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


WORDS, TARGETS = drawn(3, 8, 12), drawn(200, 12, seed=1)


def errors(codes: torch.Tensor, words: torch.Tensor = WORDS, targets: torch.Tensor = TARGETS) -> torch.Tensor:
    decoded = torch.stack([words[m][codes[:, m].long()] for m in range(len(words))]).sum(dim=0)
    return (targets - decoded).square().sum(dim=1)


def grown(words: torch.Tensor, targets: torch.Tensor, width: int, books: Codebooks | None = None) -> Beam:
    beam, books = Beam.at(targets), books or Codebooks.of(words)
    for m in range(len(words)):
        beam = beam.step(books, m, width)
    return beam.ordered()


def test_errors_are_those_of_the_codes_and_the_best_comes_first() -> None:
    beam = grown(WORDS, TARGETS, 5)
    for place in range(5):
        np.testing.assert_allclose(beam.errors[:, place], errors(beam.codes[:, place]), rtol=1e-4, atol=1e-5)
    assert (beam.errors.diff(dim=1) >= 0).all()


def test_bfloat16_and_float32_find_the_same() -> None:
    words, targets = drawn(4, 256, 300), drawn(70, 300, seed=1)
    books = Codebooks.of(words)
    codes = [
        grown(words, targets, 6, books._replace(rounded=books.rounded.to(kind))).codes
        for kind in (torch.bfloat16, torch.float32)
    ]
    assert torch.equal(codes[0], codes[1])


def test_an_outlier_among_the_codewords_spoils_no_other() -> None:
    words = WORDS.clone()
    words[0, 3] *= 1e5
    kept = grown(words, TARGETS, 16).errors[:, 0]
    assert float(kept.mean()) < 1.2 * float(grown(WORDS, TARGETS, 16).errors[:, 0].mean())
