import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text import tfidf
from service.text.tfidf import TfidfEncoder

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

GLOSSES = [
    "carpenter: a woodworker who makes or repairs wooden objects",
    "joiner: a woodworker whose work involves making things by joining pieces of wood",
    "hepatic artery: arteria hepatica: arteries that supply the liver",
    "renal artery: arteries that supply the kidneys",
    "sonata: a musical composition of several movements for a solo instrument",
    "symphony: a long and complex composition of several movements for an orchestra",
]


def test_vectors_are_the_same_in_every_release() -> None:
    vector = TfidfEncoder(dimension=32).encode(["a dog"]).vectors[0]
    expected = {0: -0.0940, 19: -0.4131, 23: -0.3821, 28: 0.8213}
    assert {int(place): float(vector[place]) for place in np.flatnonzero(vector)} == pytest.approx(expected, abs=1e-4)


def test_the_shipped_table_is_the_one_the_examples_give() -> None:
    with gzip.open(EXAMPLES / "wordnet.jsonl.gz", "rt", encoding="utf-8") as lines:
        made = tfidf.inverse_frequencies(json.loads(line)["text"] for line in lines)
    np.testing.assert_array_equal(made, np.load(Path(tfidf.__file__).with_name("idf.npy")))


def test_a_gloss_is_nearest_to_the_one_about_the_same_thing() -> None:
    vectors = TfidfEncoder().encode(GLOSSES).vectors
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -1)
    assert scores.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]


def test_rare_words_weigh_more_than_common_ones() -> None:
    query, rare, common = TfidfEncoder().encode(["the liver of the dog", "a liver", "of the"]).vectors
    assert query @ rare > query @ common + 0.2


def test_inflections_and_notation_of_one_word_meet() -> None:
    connected, connection, tax, accent, combining = (
        TfidfEncoder().encode(["CONNECTED", "connection", "tax form", "café", "cafe\u0301"]).vectors
    )
    assert connected @ connection > 0.5 > 0.2 > abs(connected @ tax)
    assert accent @ combining == pytest.approx(1, abs=1e-6)


def test_a_text_without_words_is_made_of_its_characters() -> None:
    bangs, more_bangs, questions = TfidfEncoder().encode(["!!!", "!!!!!", "???"]).vectors
    assert bangs @ more_bangs == pytest.approx(1, abs=1e-6)
    assert bangs @ questions == pytest.approx(0, abs=1e-6)


def test_signs_that_cancel_are_dropped() -> None:
    for_all, end_of_proof = (tfidf._hash(sign) for sign in "∀∎")
    assert (for_all & 1, end_of_proof & 1) == (1, 0), "both unseen, so of one weight: in one bucket they sum to 0"
    assert TfidfEncoder(dimension=1).encode(["∀∎"]).vectors.tolist() == [[1.0]]


def test_nothing_is_left_out_and_no_texts_give_no_vectors() -> None:
    assert TfidfEncoder().encode(["word " * 100_000, "!"]).warnings == [None, None]
    assert TfidfEncoder(8).encode([]).vectors.shape == (0, 8)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        TfidfEncoder(0)


@given(st.lists(st.text(), max_size=3), st.integers(1, 64))
def test_any_text_gives_a_vector_of_length_one(texts: list[str], dimension: int) -> None:
    encoded = TfidfEncoder(dimension).encode(texts)
    assert encoded.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), np.ones(len(texts)), atol=1e-5)
