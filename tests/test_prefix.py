"""Codes cut to their first bytes: what they keep beside a code trained for these, and which codes have none."""

from typing import NamedTuple

import numpy as np
import pytest

from models import (
    BadConfig,
    Codec,
    Codes,
    FlatCodec,
    Metric,
    QuantizerConfig,
    ResidualCodec,
    ResidualConfig,
    TrainingConfig,
    Vectors,
    cut,
    cut_config,
    exact_neighbours,
    fit,
    load_codec,
    recall,
)
from tests.conftest import clustered, started_codec

BYTES, SHORT = 8, 4


class Trained(NamedTuple):
    """A codec of 8 bytes, its codes of the vectors that it was trained on cut to 4, and one that was trained for 4."""

    whole: Codec
    codes: Codes
    cut: ResidualCodec
    short: Codec


def shape(steps: int) -> ResidualConfig:
    return ResidualConfig(steps, components=48, beam=8, refit_beam=8)


@pytest.fixture(scope="module")
def trained(wordnet: Vectors) -> Trained:
    seen, training = wordnet[:1000], TrainingConfig(held_out=0.1)
    whole, short = (fit(shape(steps), seen, Metric.COSINE, training).codec for steps in (BYTES, SHORT))
    codes = whole.encode(seen)
    return Trained(whole, codes, cut(whole, SHORT, codes, whole.latents(seen)), short)


def kept(codec: Codec, codes: Codes, base: Vectors, queries: Vectors) -> float:
    """recall@10 by decoded vectors."""
    found = exact_neighbours(codec.decode(codes), queries, 10, codec.metric).rows
    return float(recall(found, exact_neighbours(base, queries, 10, codec.metric).rows).mean())


def test_a_prefix_keeps_what_a_code_trained_for_its_bytes_does(trained: Trained, wordnet: Vectors) -> None:
    queries = wordnet[1600:]
    for base in (wordnet[:1000], wordnet[1000:1400]):
        codes = trained.whole.encode(base)[:, :SHORT].copy()
        trained_for = kept(trained.short, trained.short.encode(base), base, queries)
        assert kept(trained.cut, codes, base, queries) >= trained_for - 0.02
        assert kept(trained.cut, trained.cut.encode(base), base, queries) >= trained_for - 0.02


def test_codes_that_it_finds_itself_are_nearer_than_first_bytes(trained: Trained, wordnet: Vectors) -> None:
    late, weights = wordnet[1000:1400], trained.cut.weights
    own, first = trained.cut.encode(late), trained.whole.encode(late)[:, :SHORT].copy()
    z = trained.cut.latents(late)
    errors = [np.square((z - trained.cut.stored_latents(codes)) * weights).sum(axis=1) for codes in (own, first)]
    assert errors[0].sum() < errors[1].sum()
    assert (errors[0] <= errors[1] * 1.0001).mean() > 0.9
    assert 0.2 < (own == first).all(axis=1).mean() < 1


def test_its_scores_are_those_of_decoded_vectors_and_its_shortlist_knows_them(
    trained: Trained, wordnet: Vectors
) -> None:
    from service.index.additive import AdditiveIndex

    codes, queries = trained.codes[:, :SHORT].copy(), wordnet[1600:]
    wanted = exact_neighbours(trained.cut.decode(codes), queries, 10, Metric.COSINE)
    live = np.packbits(np.ones(len(codes), np.bool_), bitorder="little")
    found = AdditiveIndex(trained.cut, codes).search(queries, 20, live).rows
    assert recall(found, wanted.rows).mean() > 0.95
    np.testing.assert_allclose(trained.cut.scores(queries, codes[wanted.rows]), wanted.scores, atol=1e-5)
    whole = exact_neighbours(trained.whole.decode(trained.codes), queries, 10, Metric.COSINE)
    np.testing.assert_allclose(trained.whole.scores(queries, trained.codes[whole.rows]), whole.scores, atol=1e-5)


def test_it_is_saved_smaller_and_read_back_the_same(trained: Trained, wordnet: Vectors) -> None:
    read = load_codec(trained.cut.to_bytes())
    assert (read.code_bytes, read.fingerprint) == (SHORT, trained.cut.fingerprint)
    assert np.array_equal(read.encode(wordnet[:50]), trained.cut.encode(wordnet[:50]))
    assert isinstance(trained.whole, ResidualCodec)
    assert trained.cut.config == shape(SHORT)
    assert trained.cut.ram_bytes < 0.7 * trained.whole.ram_bytes


@pytest.mark.parametrize("metric", list(Metric))
def test_under_every_metric_a_code_can_be_cut_to_a_byte_and_again(metric: Metric) -> None:
    vectors = clustered(600, 8)
    codec: Codec = started_codec(ResidualConfig(4, beam=8), metric)
    codes = codec.encode(vectors)
    left = []
    for size in (3, 1):
        codec = cut(codec, size, codes, codec.latents(vectors))
        codes = codes[:, :size].copy()
        left.append(float(np.square(codec.latents(vectors) - codec.stored_latents(codes)).sum()))
    assert left[0] < 0.2 * left[1]
    z = codec.latents(vectors)
    assert left[1] < 0.5 * float(np.square(z - z.mean(axis=0)).sum())


def test_faisss_residual_quantiser_is_cut_too() -> None:
    vectors = clustered(600, 8)
    codec = started_codec(QuantizerConfig("PCA6,RQ4x8"), Metric.L2)
    codes = codec.encode(vectors)
    shorter = cut(codec, 2, codes, codec.latents(vectors))
    assert (shorter.kind, shorter.config, shorter.code_bytes) == ("faiss", QuantizerConfig("PCA6,RQ2x8"), 2)
    assert load_codec(shorter.to_bytes()).fingerprint == shorter.fingerprint


def test_what_cannot_be_cut_says_why() -> None:
    vectors = clustered(300, 8)
    codec = started_codec(ResidualConfig(4, beam=8), Metric.L2)
    codes, latents = codec.encode(vectors), codec.latents(vectors)
    for size in (0, 4, 9, -1):
        with pytest.raises(BadConfig, match=f"^bytes: {size} is not between 1 and 3$"):
            cut(codec, size, codes, latents)
    with pytest.raises(BadConfig, match=r"^kind: the first bytes of a flat code are no code; those of residual, and"):
        cut(FlatCodec(8, Metric.L2), 4, codes, latents)
    product = started_codec(QuantizerConfig("PQ8x8"), Metric.COSINE)
    with pytest.raises(BadConfig, match=r"^kind: the first bytes of a faiss code are no code"):
        cut(product, 4, product.encode(vectors), product.latents(vectors))


@pytest.mark.parametrize(
    ("kind", "config", "shorter"),
    [
        ("residual", {"steps": 4, "beam": 3}, ResidualConfig(2, beam=3)),
        ("faiss", {"factory": "PCA6,RQ4x8"}, QuantizerConfig("PCA6,RQ2x8")),
        ("faiss", {"factory": "RQ16x8"}, QuantizerConfig("RQ2x8")),
        ("faiss", {"factory": "OPQ3_6,PQ6x8"}, None),
        ("faiss", {"factory": "SQ8"}, None),
        ("binary", {"bits": 32}, None),
    ],
)
def test_the_configuration_says_whether(kind: str, config: dict[str, object], shorter: object) -> None:
    assert cut_config(kind, config, 2) == shorter
