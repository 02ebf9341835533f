"""The residual autoencoder: what it keeps, beside FAISS's residual quantiser; prefixes, seeds, stops and odd data."""

from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import (
    Epoch,
    Metric,
    ResidualAutoencoder,
    ResidualCodec,
    ResidualConfig,
    TooFewVectors,
    TrainingConfig,
    TrainingStopped,
    Vectors,
    exact_neighbours,
    fit,
    prepared,
    recall,
    vectors_within,
)
from tests.conftest import clustered, started_codec

TRAINING = TrainingConfig(held_out=0.2)


def kept(decoded: Vectors, base: Vectors, queries: Vectors, metric: Metric) -> float:
    truth = exact_neighbours(base, queries, 10, metric).rows
    return float(recall(exact_neighbours(decoded, queries, 10, metric).rows, truth).mean())


@pytest.fixture(scope="module")
def real(wordnet: Vectors) -> tuple[ResidualCodec, Vectors, Vectors]:
    """A codec of 8 bytes trained on 1,400 real vectors, those, and 400 later ones; the last 200 are queries."""
    fitted = fit(ResidualConfig(8), wordnet[:1400], Metric.COSINE, TrainingConfig(held_out=0.05))
    assert isinstance(fitted.codec, ResidualCodec)
    return fitted.codec, wordnet[:1400], wordnet[1400:1800]


def test_it_keeps_more_than_a_residual_quantiser(
    real: tuple[ResidualCodec, Vectors, Vectors], wordnet: Vectors
) -> None:
    codec, seen, late = real
    quantizer = faiss.ResidualQuantizer(384, 8, 8)
    quantizer.max_beam_size = 5
    quantizer.train(seen[np.sort(np.random.default_rng(0).permutation(1400)[70:])])  # what it learned from itself
    # Both are put back on the sphere. So few vectors both know nearly by heart: there two trainings of one differ by
    # .02. On vectors never seen it is ahead.
    for base, least in ((seen, -0.04), (late, 0.0)):
        theirs = quantizer.decode(quantizer.compute_codes(base))
        ours = codec.decode(codec.encode(base))
        queries = wordnet[1800:]
        assert kept(ours, base, queries, Metric.COSINE) > kept(theirs, base, queries, Metric.COSINE) + least


@given(st.integers(0, 2**36), st.integers(1, 1_024), st.integers(1, 64))
def test_a_training_takes_as_many_vectors_as_fit(memory: int, components: int, beam: int) -> None:
    def held(n: int) -> int:
        return 4 * components * ((beam + 1) * n + 3 * min(beam * n, 250_000))

    most = vectors_within(memory, ResidualConfig(8, components=components, training_beam=beam))
    assert held(most) <= memory < held(most + 1)


def test_every_byte_more_leaves_less(real: tuple[ResidualCodec, Vectors, Vectors]) -> None:
    codec, seen, _ = real
    z = codec.latents(seen)
    codes = codec.encode(seen)
    left = [float(np.square(z - codec.stored_latents(codes[:, :size])).sum()) for size in range(1, 9)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.5 * float(np.square(z - z.mean(axis=0)).sum())


def test_the_shortlist_asks_for_cosines(real: tuple[ResidualCodec, Vectors, Vectors], wordnet: Vectors) -> None:
    from service.index.additive import AdditiveIndex

    codec, seen, _ = real
    codes = codec.encode(seen)
    live = np.packbits(np.ones(len(seen), np.bool_), bitorder="little")
    queries = wordnet[1800:]
    found = AdditiveIndex(codec, codes).search(queries, 10, live).rows
    wanted = exact_neighbours(codec.decode(codes), queries, 10, Metric.COSINE).rows
    products = np.argsort(-(queries @ codec.decode(codes).T), axis=1)[:, :10]
    assert recall(found, wanted).mean() > max(0.85, recall(products, wanted).mean())


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
def test_addresses_are_leading_bytes_in_the_order_of_their_distance(metric: Metric) -> None:
    codec = started_codec(ResidualConfig(4), metric)
    assert isinstance(codec, ResidualCodec)
    codes = codec.encode(clustered(300, 8))
    latents = codec.latents(clustered(1, 8, 5))[0]
    for bits, width in ((10, 1), (16, 2)):
        keys = codec.bucket_keys(codes, bits)
        assert keys[:, 0].tolist() == [int.from_bytes(code[:width].tobytes(), "big") for code in codes]
        costs = codec.bucket_costs(latents, bits)
        assert costs.shape == (1, codec.bucket_count(bits))
        distances = np.square(latents - codec.stored_latents(codes[:, :width])).sum(axis=1)
        np.testing.assert_allclose(costs[0, keys[:, 0]] + np.square(latents).sum(), distances, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [0.01, 1, 100])
def test_under_ip_addresses_are_in_the_order_of_inner_products_whatever_the_querys_length(length: float) -> None:
    codec = started_codec(ResidualConfig(4), Metric.IP)
    assert isinstance(codec, ResidualCodec)
    tensors = codec.tensors
    codes = codec.encode(clustered(300, 8))
    query = clustered(1, 8, 5) * np.float32(length)
    for bits, width in ((10, 1), (16, 2)):
        costs = codec.bucket_costs(codec.latents(query)[0], bits)[0, codec.bucket_keys(codes, bits)[:, 0]]
        padded = codec.stored_latents(codes[:, :width])
        products = (padded @ tensors["principal"].T + tensors["mean"] / tensors["scale"]) @ query[0]
        np.testing.assert_allclose(-(costs - costs[0]), products - products[0], rtol=1e-2, atol=1e-3 * length)


@pytest.mark.parametrize("metric", [Metric.L2, Metric.IP])
def test_an_outlier_is_found_and_spoils_no_other(metric: Metric) -> None:
    from service.index.additive import AdditiveIndex

    vectors = clustered(3000, 16)
    vectors[1234] *= 1e3
    codec = fit(ResidualConfig(4), vectors, metric, TrainingConfig(start_sample=200)).codec
    codes = codec.encode(vectors)
    assert len(np.unique(codes, axis=0)) > 1500
    live = np.packbits(np.ones(3000, np.bool_), bitorder="little")
    assert AdditiveIndex(codec, codes).search(vectors[1234:1235], 5, live).rows[0, 0] == 1234
    others = np.delete(np.arange(3000), 1234)
    left = np.square(vectors[others] - codec.decode(codes[others])).sum()
    assert left < 0.2 * np.square(vectors[others] - vectors[others].mean(axis=0)).sum()


@pytest.mark.parametrize("steps", [1, 2])
def test_codes_of_a_byte_or_two_have_addresses(steps: int) -> None:
    codec = fit(ResidualConfig(steps), clustered(300, 8), Metric.L2, TrainingConfig()).codec
    keys = codec.bucket_keys(codec.encode(clustered(300, 8)), 16)
    costs = codec.bucket_costs(codec.latents(clustered(1, 8))[0], 16)
    assert costs.shape == (1, 256**steps)
    assert keys.max() < 256**steps
    distances = np.square(
        codec.latents(clustered(1, 8))[0] - codec.stored_latents(codec.encode(clustered(300, 8)))
    ).sum(1)
    assert costs[0, keys[:, 0]].argmin() == distances.argmin()


def test_l2_far_from_the_origin_keeps_its_neighbours() -> None:
    vectors = clustered(1000, 8) + np.float32(1e4)
    codec = fit(ResidualConfig(4), vectors, Metric.L2, TrainingConfig()).codec
    codes = codec.encode(vectors)
    found = np.argsort(-codec.scores(vectors[:20], np.broadcast_to(codes, (20, *codes.shape))), axis=1)[:, :10]
    assert recall(found, exact_neighbours(vectors, vectors[:20], 10, Metric.L2).rows).mean() > 0.8


def test_a_training_cut_off_goes_on_to_the_same_codec(tmp_path: Path) -> None:
    vectors, config = clustered(400, 8), ResidualConfig(4)

    def stop(share: float, epoch: Epoch) -> None:
        assert 0 <= share <= 1
        if epoch.number == 3:
            raise TrainingStopped

    whole = fit(config, vectors, Metric.L2, TRAINING)
    with pytest.raises(TrainingStopped):
        fit(config, vectors, Metric.L2, TRAINING, progress=stop, checkpoint=tmp_path / "checkpoint")
    numbers: list[int] = []
    resumed = fit(
        config,
        vectors,
        Metric.L2,
        TRAINING,
        progress=lambda _, epoch: numbers.append(epoch.number),
        checkpoint=tmp_path / "checkpoint",
    )
    assert resumed.codec.fingerprint == whole.codec.fingerprint
    assert numbers == [epoch.number for epoch in whole.run.epochs]


def test_the_curve_tells_the_errors_of_its_codes() -> None:
    vectors = clustered(1000, 8)
    fitted = fit(ResidualConfig(3), vectors, Metric.L2, TRAINING)
    held = vectors[np.sort(np.random.default_rng(0).permutation(1000)[:200])]
    codec = fitted.codec
    error = float(np.square(held - codec.decode(codec.encode(held))).mean())
    variance = float(np.square(vectors - vectors.mean(axis=0)).mean())
    assert fitted.run.epochs[-1].held_out_error == pytest.approx(error / variance, rel=0.05)  # found by a narrower beam
    assert fitted.run.best == fitted.run.epochs[-1]
    errors = [epoch.held_out_error for epoch in fitted.run.epochs[:4]]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(1, rel=0.1)


def test_minutes_are_kept_by_taking_fewer_vectors() -> None:
    vectors = clustered(6_000, 8)
    free = fit(ResidualConfig(8), vectors, Metric.L2, TrainingConfig())
    grown = free.run.epochs[8].seconds  # with half of the time that growing took, codebooks get a quarter of it
    short = fit(ResidualConfig(8), vectors, Metric.L2, TrainingConfig(minutes=grown / 60 / 2))
    assert (free.run.trained_on, short.run.trained_on < 3_000) == (5_700, True)
    assert short.run.seconds < 0.75 * free.run.seconds
    assert fit(ResidualConfig(4), vectors[:4000], Metric.L2, TrainingConfig(minutes=1e-6)).run.trained_on >= 1_024
    assert fit(ResidualConfig(1), vectors[:200], Metric.L2, TrainingConfig(minutes=1e-6)).run.trained_on == 190


@pytest.mark.parametrize(
    "vectors",
    [
        pytest.param(clustered(40, 8), id="fewer than codewords"),
        pytest.param(np.repeat(clustered(3, 8), 100, axis=0), id="duplicates"),
        pytest.param(np.ones((300, 8), np.float32), id="all equal"),
        pytest.param(np.pad(clustered(300, 3), ((0, 0), (0, 5)), constant_values=2), id="constant components"),
        pytest.param(clustered(300, 2), id="fewer components than steps"),
        pytest.param(clustered(300, 1, clusters=5), id="one component"),
    ],
)
@pytest.mark.parametrize("metric", list(Metric))
def test_odd_data_is_kept_all_the_same(vectors: Vectors, metric: Metric) -> None:
    wanted = prepared(vectors, metric)
    codec = fit(ResidualConfig(4), wanted, metric, TrainingConfig(held_out=0.1)).codec
    together = codec.encode(vectors)
    left = float(np.square(wanted - codec.decode(together)).mean())
    assert left <= 0.2 * float(np.square(wanted - wanted.mean(axis=0)).mean()) + 1e-6
    assert np.array_equal(codec.encode(vectors[7:8])[0], together[7])


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(TooFewVectors, match="15 vectors are too few"):
        fit(ResidualConfig(4), clustered(15, 8), Metric.L2, TrainingConfig())
    with pytest.raises(TooFewVectors, match="1 of 16 vectors are not held out"):
        fit(ResidualConfig(4), clustered(16, 8), Metric.L2, TrainingConfig(held_out=0.95))
    assert fit(ResidualConfig(4), clustered(16, 8), Metric.L2, TrainingConfig(held_out=0.8)).run.trained_on == 4


def test_a_wider_beam_keeps_the_codec_and_finds_better_codes(real: tuple[ResidualCodec, Vectors, Vectors]) -> None:
    codec, _, late = real
    z = torch.from_numpy(codec.latents(late))
    left = []
    for beam in (1, 4, 32):
        model = ResidualAutoencoder(384, ResidualConfig(8, beam=beam))
        model.codebooks.copy_(torch.from_numpy(codec.codebooks))
        left.append(float((z - model.unpack(model.pack(z))).square().sum()))
    assert left[0] > left[1] > left[2]
