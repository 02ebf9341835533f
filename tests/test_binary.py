"""Semantic hashing: the bits themselves, what training makes of them, and how they are searched."""

from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
import torch

from models import BadConfig, Metric, TrainingConfig, Vectors, exact_neighbours, prepared, recall, train
from models.binary import BinaryAutoencoder
from models.binary_codec import BinaryCodec
from models.codec import TABLES
from models.configs import BinaryConfig
from models.metric import Codes
from service.index.buckets import BucketIndex
from service.index.faiss import FaissIndex
from tests.conftest import clustered

DIM, BITS, FEW, K = 32, 64, 16, 10
BASE, QUERIES = prepared(clustered(3000, DIM), Metric.COSINE), prepared(clustered(100, DIM, 1), Metric.COSINE)
TRUTH = exact_neighbours(BASE, QUERIES, K, Metric.COSINE).rows


def autoencoder(epochs: int, seed: int = 0, bits: int = BITS, **config: float) -> BinaryAutoencoder:
    model = BinaryAutoencoder(DIM, BinaryConfig(bits, **config))
    train(model, BASE, TrainingConfig(epochs=epochs, seed=seed))
    return model


@cache
def codec() -> BinaryCodec:
    return BinaryCodec(autoencoder(5), Metric.COSINE)


@cache
def short() -> BinaryCodec:
    """So few bits that they must differ to be of use."""
    return BinaryCodec(autoencoder(10, bits=FEW), Metric.COSINE)


@cache
def hyperplanes() -> list[BinaryCodec]:
    """Random hyperplanes through the mean, as many as `short` has bits, drawn three times."""
    codecs = []
    for seed in range(3):
        model = BinaryAutoencoder(DIM, BinaryConfig(FEW))
        model.mean.copy_(torch.from_numpy(BASE.mean(axis=0)))
        model.encoder.weight.data.normal_(generator=torch.Generator().manual_seed(seed))
        model.encoder.bias.data.zero_()
        codecs.append(BinaryCodec(model, Metric.COSINE))
    return codecs


def bits(codes: Codes) -> Vectors:
    return np.unpackbits(codes, axis=1, bitorder="little").astype(np.float32) * 2 - 1


def hamming_recall(codec: BinaryCodec) -> float:
    """Share of the true ten among the 100 nearest codes."""
    base, queries = bits(codec.encode(BASE)), bits(codec.encode(QUERIES))
    return float(recall(exact_neighbours(base, queries, 100, Metric.IP).rows, TRUTH).mean())


def imbalance(codec: BinaryCodec) -> float:
    return float(np.abs(bits(codec.encode(BASE)).mean(axis=0)).mean())


def correlation(codec: BinaryCodec) -> float:
    products = np.abs(np.corrcoef(bits(codec.encode(BASE)).T))
    return float((products.sum() - len(products)) / (products.size - len(products)))


def test_bit_j_of_byte_i_is_latent_8i_plus_j() -> None:
    model = BinaryAutoencoder(4, BinaryConfig(16))
    z = torch.tensor([[1.0, -1, 2, -0.5, -3, -1, -1, 0.1, 0.0, 5, -1, -1, -1, -1, -1, -1]])
    assert model.pack(z).tolist() == [[0b10000101, 0b00000010]]
    assert model.code_bytes == 2
    signs = [1, -1, 1, -1, -1, -1, -1, 1, -1, 1, -1, -1, -1, -1, -1, -1]
    assert model.unpack(model.pack(z)).tolist() == [signs]


def test_every_code_survives_unpacking_and_packing() -> None:
    model = BinaryAutoencoder(4, BinaryConfig(24))
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300, 3), dtype=np.uint8))
    stored = model.unpack(codes)
    assert set(stored.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(model.pack(stored), codes)
    assert torch.equal(model.double().unpack(codes), stored.double())


def test_training_balances_and_decorrelates_the_bits() -> None:
    assert imbalance(short()) < min(imbalance(codec) for codec in hyperplanes())
    assert correlation(short()) < min(correlation(codec) for codec in hyperplanes())


def test_hamming_ranking_beats_random_hyperplanes() -> None:
    assert hamming_recall(short()) > max(hamming_recall(codec) for codec in hyperplanes()) + 0.03


def test_training_improves_what_it_is_asked_for() -> None:
    model = BinaryAutoencoder(DIM, BinaryConfig(BITS))
    run = train(model, BASE, TrainingConfig(epochs=4))
    assert run.best.number > 0
    assert run.best.held_out_error < run.epochs[0].held_out_error


def test_a_trained_model_keeps_no_training_vectors() -> None:
    assert len(autoencoder(1).pool) == 0
    assert not any(tensor.shape[0] == len(BASE) for tensor in codec()._encoder.state_dict().values() if tensor.ndim)


def test_the_same_seed_gives_the_same_codec_and_another_one_another() -> None:
    prints = [BinaryCodec(autoencoder(1, seed, noise=0.1), Metric.COSINE).fingerprint for seed in (3, 3, 4)]
    assert prints[0] == prints[1] != prints[2]


def test_more_bits_than_components_and_fewer_vectors_than_a_step_wants() -> None:
    for values in (BASE[:40, :8], np.ones((40, 8), np.float32)):
        model = BinaryAutoencoder(8, BinaryConfig(32))
        run = train(model, np.ascontiguousarray(values), TrainingConfig(epochs=2))
        assert np.isfinite([epoch.held_out_error for epoch in run.epochs]).all()
        assert BinaryCodec(model, Metric.L2).encode(np.ascontiguousarray(values)).shape == (40, 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("bits", 12), ("bits", 0), ("similarity", -1.0), ("temperature", 0.0), ("balance", float("nan")), ("noise", -0.1)],
)
def test_a_bad_setting_is_named(field: str, value: float) -> None:
    with pytest.raises(BadConfig, match=field):
        BinaryConfig(**{field: value})  # type: ignore[arg-type]


def test_the_configuration_survives_json() -> None:
    config = BinaryConfig(64, decorrelation=0.5)
    assert BinaryConfig.from_dict(asdict(config)) == config


@pytest.mark.parametrize("metric", Metric)
def test_faiss_finds_what_the_asymmetric_distance_finds(metric: Metric) -> None:
    model = BinaryCodec(autoencoder(1), metric)
    codes = model.encode(BASE)
    found = FaissIndex(model, codes).search(QUERIES, K, np.packbits(np.ones(len(BASE), bool), bitorder="little"))
    products = model.points(QUERIES) @ bits(codes).T
    best = -np.sort(-products, axis=1)[:, :K]
    np.testing.assert_allclose(np.take_along_axis(products, found.rows, axis=1), best, rtol=1e-3, atol=1e-3)


def test_under_ip_a_point_scores_as_the_decoded_vector() -> None:
    model = BinaryCodec(autoencoder(1), Metric.IP)
    codes = model.encode(BASE[:50])
    by_points = model.points(QUERIES) @ bits(codes).T
    by_decoding = QUERIES @ model.decode(codes).T
    differences = by_decoding / float(model._decoder.scale) - by_points
    # What is left belongs to the query, the same for each of its candidates.
    np.testing.assert_allclose(differences, np.broadcast_to(differences[:, :1], differences.shape), atol=1e-3)


def test_bucket_keys_are_bits_of_the_code() -> None:
    codes = codec().encode(BASE)
    keys = codec().bucket_keys(codes)
    assert keys.shape == (len(BASE), TABLES)
    assert np.array_equal(keys, np.ascontiguousarray(codes).view("<u2"))


def test_buckets_find_the_neighbours_that_a_full_scan_finds() -> None:
    codes = codec().encode(BASE)
    live = np.packbits(np.ones(len(BASE), bool), bitorder="little")
    whole = FaissIndex(codec(), codes).search(QUERIES, K, live).rows
    scan = BucketIndex(FaissIndex(codec(), codes)).search(QUERIES, K, live, len(BASE) // 8)
    assert scan.candidates.max() <= len(BASE) // 8
    assert recall(scan.neighbours.rows, whole).mean() > 0.8
