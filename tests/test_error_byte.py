"""The byte that tells how far a vector is from what its codewords stand for, and what Euclidean scores gain by it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import (
    BadConfig,
    Codes,
    Metric,
    ResidualCodec,
    ResidualConfig,
    TrainingConfig,
    Vectors,
    cut,
    cut_codes,
    described,
    exact_neighbours,
    farther,
    fit,
    load_codec,
    recall,
)
from models.error_byte import LEVELS, SHARE, levels_of, nearest_levels
from models.saving import loaded
from service.index.additive import AdditiveIndex
from tests.conftest import clustered, started_codec

TRAINING = TrainingConfig(held_out=0.05)


def kept(codec: ResidualCodec, codes: Codes, base: Vectors, queries: Vectors) -> float:
    """recall@10 by the codec's own scores."""
    found = exact_neighbours(*farther(codec.decode(codes), queries, codec.errors(codes)), 10, Metric.L2).rows
    return float(recall(found, exact_neighbours(base, queries, 10, Metric.L2).rows).mean())


def trained(config: ResidualConfig, vectors: Vectors) -> ResidualCodec:
    codec = fit(config, vectors, Metric.L2, TRAINING).codec
    assert isinstance(codec, ResidualCodec)
    return codec


@pytest.fixture(scope="module")
def codec(wordnet: Vectors) -> ResidualCodec:
    """Of ten bytes, trained on 1,400 real vectors."""
    return trained(ResidualConfig.for_bytes(10, Metric.L2, components=128, beam=8, refit_beam=8), wordnet[:1400])


def test_under_l2_one_byte_of_eight_or_more_is_it() -> None:
    for size, metric, config in (
        (7, Metric.L2, ResidualConfig(7)),
        (8, Metric.L2, ResidualConfig(7, error_byte=True)),
        (64, Metric.L2, ResidualConfig(63, error_byte=True)),
        (8, Metric.COSINE, ResidualConfig(8)),
        (8, Metric.IP, ResidualConfig(8)),
    ):
        assert ResidualConfig.for_bytes(size, metric) == config
        assert config.code_bytes(8) == size
    for metric in (Metric.COSINE, Metric.IP):
        with pytest.raises(BadConfig, match=f"^error_byte: scores by {metric} do not gain by it: leave it out"):
            fit(ResidualConfig(7, error_byte=True), clustered(40, 8), metric, TrainingConfig())
    for steps in (6, 64):
        with pytest.raises(BadConfig, match=f"^error_byte: it is for codes of 8 to 64 bytes, not {steps + 1}"):
            ResidualConfig(steps, error_byte=True)


def test_what_has_none_says_nothing_of_it() -> None:
    """Codecs of before keep their fingerprints, and programs of before read the others."""
    assert "error_byte" not in described(ResidualConfig(4))
    assert described(ResidualConfig(7, error_byte=True))["error_byte"] is True
    for config in (ResidualConfig(4), ResidualConfig(7, error_byte=True)):
        assert ResidualConfig.from_dict(described(config)) == config
    plain, _ = loaded(started_codec(ResidualConfig(4, beam=8), Metric.COSINE).to_bytes())
    assert set(plain["config"]) == {"steps", "components", "beam", "refit_beam", "training_beam"}


def test_the_index_finds_by_the_codecs_scores_and_not_by_decoded_distances(
    codec: ResidualCodec, wordnet: Vectors
) -> None:
    codes, queries = codec.encode(wordnet[:1800]), wordnet[1800:]
    slots, products = AdditiveIndex(codec, codes)._looked(queries, 100, np.full(225, 255, np.uint8), 256)
    scores = codec.scores(queries, codes[slots])
    ranks = [np.argsort(np.argsort(-part, axis=1), axis=1) for part in (products, scores)]
    assert np.abs(ranks[0] - ranks[1]).mean() < 1
    plain = exact_neighbours(codec.decode(codes), queries, 100, Metric.L2).rows
    own = exact_neighbours(*farther(codec.decode(codes), queries, codec.errors(codes)), 100, Metric.L2).rows
    assert recall(slots[:, :100], own).mean() > 0.99 > 0.9 > recall(slots[:, :100], plain).mean()


@given(arrays(np.float64, st.integers(1, 300), elements=st.just(0.0) | st.floats(1e-3, 1e6)))
def test_errors_are_rounded_to_the_nearest_of_ascending_levels(errors: Vectors) -> None:
    levels = levels_of(errors)
    assert levels.shape == (LEVELS,)
    assert (np.diff(levels) >= 0).all()
    rounded = levels[nearest_levels(errors, levels)[:, 0]].astype(np.float64)
    least = np.abs(errors[:, None] - levels.astype(np.float64)).min(axis=1)
    np.testing.assert_allclose(np.abs(errors - rounded), least, rtol=1e-6, atol=1e-9)
    some = errors[errors > np.quantile(errors, 0.999) / 200]
    np.testing.assert_allclose(levels[nearest_levels(2 * some, levels)[:, 0]], 2 * some, rtol=0.014)


def test_it_tells_how_far_a_vector_is_from_what_its_codewords_stand_for(codec: ResidualCodec, wordnet: Vectors) -> None:
    for vectors in (wordnet[:1400], wordnet[1400:]):  # those by heart are near, others far
        codes = codec.encode(vectors)
        told = codec.errors(codes)
        assert told is not None
        errors = np.square(vectors - codec.decode(codes)).sum(axis=1)
        assert np.abs(told / SHARE - errors).mean() < 0.01 * errors.mean()


def test_more_neighbours_are_kept_than_by_a_codeword_more(codec: ResidualCodec, wordnet: Vectors) -> None:
    other = trained(ResidualConfig(10, components=128, beam=8, refit_beam=8), wordnet[:1400])
    assert (codec.code_bytes, other.code_bytes) == (10, 10)
    for base, least in ((wordnet[:1400], 0.03), (wordnet[1400:1800], 0.02), (wordnet[:1800], 0.1)):
        ours, theirs = (kept(one, one.encode(base), base, wordnet[1800:]) for one in (codec, other))
        assert ours > theirs + least


def test_it_is_saved_and_read_back_the_same(codec: ResidualCodec, wordnet: Vectors) -> None:
    read = load_codec(codec.to_bytes())
    codes = codec.encode(wordnet[1400:1450])
    assert read.fingerprint == codec.fingerprint
    assert np.array_equal(read.encode(wordnet[1400:1450]), codes)
    assert codes.shape == (50, 10)
    assert len(codec.to_bytes()) < 2 * 256 * (9 * 128 + 10 * 2) + 384 * 128 * 8 + 20_000, "no codewords for it"


def test_cut_codes_have_one_of_their_own(codec: ResidualCodec, wordnet: Vectors) -> None:
    seen, late, asked = wordnet[:1400], wordnet[1400:1800], wordnet[1800:]
    codes = codec.encode(seen)
    shorter = cut(codec, 8, codes, codec.latents(seen))
    assert (shorter.steps, shorter.code_bytes) == (7, 8)
    short = trained(ResidualConfig.for_bytes(8, Metric.L2, components=128, beam=8, refit_beam=8), seen)
    for base in (seen, late):
        ours = cut_codes(codec, codec.encode(base), shorter)
        assert np.array_equal(ours[:, :7], codec.encode(base)[:, :7])
        told, errors = shorter.errors(ours), np.square(base - shorter.decode(ours)).sum(axis=1)
        assert told is not None
        assert np.corrcoef(told, errors)[0, 1] > 0.8
        assert kept(shorter, ours, base, asked) > kept(short, short.encode(base), base, asked) - 0.02
    few = cut(codec, 4, codes, codec.latents(seen))
    assert (few.steps, few.errors(codes[:, :4])) == (4, None)
    assert np.array_equal(cut_codes(codec, codes, few), codes[:, :4])
