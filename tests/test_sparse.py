"""The sparse autoencoder, its codes, its buckets and its index."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import (
    BadConfig,
    Codec,
    DenseAutoencoder,
    DenseConfig,
    LatentType,
    Metric,
    SparseSpace,
    TrainingConfig,
    Vectors,
    exact_neighbours,
    prepared,
    recall,
    train,
)
from models.adam import Adam
from models.configs import SparseConfig, Sparsity
from models.corruption import Corruption, CorruptionKind
from models.sparse import SparseAutoencoder
from models.sparse_codec import SparseCodec
from service.index.buckets import BucketIndex
from service.index.sparse import SparseIndex
from tests.conftest import clustered

N, DIM, K, LATENTS = 2000, 16, 4, 32
BASE, QUERIES = clustered(N, DIM), clustered(40, DIM, 1)
ALL = np.packbits(np.ones(N, np.bool_), bitorder="little")
SHAPES = {sparsity: SparseConfig(latents=LATENTS, k=K, sparsity=sparsity, dead_after=20) for sparsity in Sparsity}
TRAINED: dict[tuple[Sparsity, Metric], SparseAutoencoder] = {}


def trained(sparsity: Sparsity = Sparsity.TOPK, metric: Metric = Metric.L2) -> SparseAutoencoder:
    """Trained once for all tests: 32 latents of which 4 are active."""
    if (sparsity, metric) not in TRAINED:
        model = SparseAutoencoder(DIM, SHAPES[sparsity])
        train(model, prepared(BASE, metric), TrainingConfig(epochs=30, batch_size=100, patience=30))
        TRAINED[sparsity, metric] = model
    return TRAINED[sparsity, metric]


def codec_of(metric: Metric, sparsity: Sparsity = Sparsity.TOPK) -> SparseCodec:
    return SparseCodec(trained(sparsity, metric), metric)


def activity(model: SparseAutoencoder, vectors: Vectors) -> NDArray[np.bool_]:
    """(n, m): which latents are active."""
    with torch.no_grad():
        return np.asarray(model.encode(torch.from_numpy(vectors)).numpy() > 0, np.bool_)


def test_the_bytes_of_a_code() -> None:
    model = SparseAutoencoder(4, SparseConfig(latents=1000, k=3))
    model.unit.fill_(0.5)
    z = torch.zeros(2, 1000)
    z[0, 515], z[0, 2] = 10.0, 127.4  # 20 and 254.8 units
    z[1, 0], z[1, 1], z[1, 2], z[1, 999] = 1.0, 2.0, 3.0, 1000.0  # four are one too many; 2000 units are cut at 255
    codes = model.pack(z)
    assert codes.tolist() == [[0, 0, 2, 0, 3, 2, 0, 255, 20], [1, 0, 2, 0, 231, 3, 4, 6, 255]]
    unpacked = model.unpack(codes)
    assert unpacked[0].nonzero().flatten().tolist() == [2, 515]
    assert unpacked[0, [2, 515]].tolist() == [127.5, 10.0]
    assert unpacked[1, [0, 1, 2, 999]].tolist() == [0.0, 2.0, 3.0, 127.5]
    assert torch.equal(model.pack(unpacked), codes)


def test_a_pair_that_stands_for_nothing_leaves_latent_0_as_it_is() -> None:
    model = SparseAutoencoder(4, SparseConfig(latents=10, k=3))
    z = torch.zeros(1, 10)
    z[0, 0] = 7
    assert model.pack(z).tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 7]]
    assert torch.equal(model.unpack(model.pack(z)), z)


@pytest.mark.parametrize("sparsity", list(Sparsity))
def test_the_asked_sparsity_is_reached_and_hardly_a_latent_is_dead(sparsity: Sparsity) -> None:
    model = trained(sparsity)
    active = activity(model, BASE)
    assert active.sum(axis=1).mean() == pytest.approx(K, rel=0.05)
    assert (~active.any(axis=0)).mean() < 0.05
    if sparsity is Sparsity.TOPK:
        assert active.sum(axis=1).max() == K


@pytest.mark.parametrize("sparsity", list(Sparsity))
def test_training_lowers_the_error_and_codes_lose_little(sparsity: Sparsity) -> None:
    vectors = torch.from_numpy(BASE)
    model, begun = trained(sparsity), SparseAutoencoder(DIM, SHAPES[sparsity])
    with torch.no_grad():
        begun.start(vectors, torch.Generator().manual_seed(0))
        begun.settle(vectors)
        assert model.error(vectors) < 0.7 * begun.error(vectors)
        plain = ((vectors - model.decode(model.encode(vectors))) / model.scale).square().mean()
    if sparsity is Sparsity.TOPK:
        with torch.no_grad():
            assert float(model.error(vectors)) == pytest.approx(float(plain), abs=0.002)


def test_the_columns_of_the_decoder_have_length_1() -> None:
    np.testing.assert_allclose(torch.linalg.norm(trained().atoms.detach(), dim=1).numpy(), 1, rtol=1e-5)


def test_the_penalty_grows_while_too_many_are_active() -> None:
    model = trained(Sparsity.L1)
    crowded = SparseAutoencoder(DIM, SHAPES[Sparsity.L1])
    crowded.load_state_dict(model.state_dict())
    before = float(crowded.penalty)
    with torch.no_grad():
        crowded.offset.add_(3)
    crowded.loss(torch.from_numpy(BASE[:100]), torch.Generator())
    assert float(crowded.penalty) > before
    with torch.no_grad():
        crowded.offset.sub_(100)
    before = float(crowded.penalty)
    crowded.loss(torch.from_numpy(BASE[:100]), torch.Generator())
    assert float(crowded.penalty) < before


def test_dead_latents_are_revived() -> None:
    dead = {}
    vectors = torch.from_numpy(BASE)
    for lift in (0.0, 0.02):
        model = SparseAutoencoder(DIM, SparseConfig(latents=LATENTS, k=K, dead_after=20, lift=lift))
        with torch.no_grad():
            model.start(vectors, torch.Generator().manual_seed(0))
            model.offset[::2] -= 4  # out of reach
        adam = Adam(model.parameters())
        for step in range(400):
            model.loss(vectors[step % 20 :: 20], torch.Generator()).backward()  # type: ignore[no-untyped-call]
            adam.step(0.005)
        dead[lift] = (~activity(model, BASE).any(axis=0)).mean()
    assert dead[0.0] >= 0.5
    assert dead[0.02] < 0.1


def test_overcomplete_and_unregularised_learns_the_identity_and_sparse_does_not() -> None:
    noise = np.random.default_rng(0).standard_normal((500, DIM)).astype(np.float32)
    shape = DenseConfig(64, LatentType.FLOAT16, decoder_hidden=(), corruption=Corruption(CorruptionKind.NONE))
    dense = DenseAutoencoder(DIM, shape)
    train(dense, BASE, TrainingConfig(epochs=5))
    with torch.no_grad():
        through = float(dense.error(torch.from_numpy(noise)) * dense.scale**2)
        kept = float(trained().error(torch.from_numpy(noise)) * trained().scale ** 2)
    assert through < 0.001  # noise, which is nothing like the data, comes out as it went in
    assert kept > 0.1


@pytest.mark.parametrize("sparsity", list(Sparsity))
@pytest.mark.parametrize("vectors", [np.ones((50, DIM), np.float32), clustered(20, DIM)], ids=["constant", "few"])
def test_degenerate_vectors_train_to_something_finite(vectors: Vectors, sparsity: Sparsity) -> None:
    model = SparseAutoencoder(DIM, SparseConfig(latents=LATENTS, k=K, sparsity=sparsity, dead_after=2))
    run = train(model, vectors, TrainingConfig(epochs=3))
    codec = SparseCodec(model, Metric.COSINE)
    assert np.isfinite(run.best.held_out_error)
    assert np.isfinite(codec.decode(codec.encode(vectors))).all()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_config_survives_json() -> None:
    config = SparseConfig(sparsity=Sparsity.L1, k=8)
    assert SparseConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_the_same_seed_gives_the_same_codec() -> None:
    prints = []
    for seed in (1, 1, 2):
        model = SparseAutoencoder(DIM, SHAPES[Sparsity.BATCH_TOPK])
        train(model, BASE[:500], TrainingConfig(epochs=2, seed=seed))
        prints.append(SparseCodec(model, Metric.L2).fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("sparsity", list(Sparsity))
def test_a_code_does_not_depend_on_its_batch(sparsity: Sparsity) -> None:
    codec = codec_of(Metric.COSINE, sparsity)
    together = codec.encode(BASE[:600])
    assert together.shape == (600, 3 * K)
    assert np.array_equal(together, np.concatenate([codec.encode(BASE[row : row + 1]) for row in range(600)]))


@pytest.mark.parametrize("metric", list(Metric))
def test_the_index_is_brute_force_over_decoded_vectors(metric: Metric) -> None:
    codec = codec_of(metric)
    codes = codec.encode(BASE)
    truth = exact_neighbours(codec.decode(codes), prepared(QUERIES, metric), 10, metric)
    found = SparseIndex(codec, codes).search(QUERIES, 10, ALL)
    shift = (QUERIES**2).sum(axis=1, keepdims=True) if metric is Metric.L2 else 0
    np.testing.assert_allclose(found.scores - shift, truth.scores, rtol=1e-3, atol=1e-3 * np.abs(truth.scores).max())
    assert recall(found.rows, truth.rows).mean() > 0.99  # equal codes and rounding may swap the last


def test_only_the_living_are_found_and_ties_are_in_the_order_of_slots() -> None:
    codec = codec_of(Metric.IP)
    codes = np.repeat(codec.encode(BASE[:3]), 50, axis=0)
    index = SparseIndex(codec, codes)
    live = np.zeros(150, np.bool_)
    live[[7, 60, 61, 149]] = True
    found = index.search(QUERIES, 6, np.packbits(live, bitorder="little"))
    assert (np.sort(found.rows, axis=1) == [-1, -1, 7, 60, 61, 149]).all()
    assert np.isneginf(found.scores[found.rows < 0]).all()
    every = index.search(QUERIES, 50, np.packbits(np.ones(150, np.bool_), bitorder="little"))
    assert (np.diff(every.rows, axis=1) == 1).all()


@pytest.mark.parametrize("metric", list(Metric))
def test_an_indexs_scores_are_the_codecs(metric: Metric) -> None:
    codec = codec_of(metric)
    codes = codec.encode(BASE[:50])
    points, slots = codec.points(QUERIES), np.arange(3, 50, 2)
    expected = [codec.point_scores(point, codec.stored_latents(codes[slots])) for point in points]
    found = [near(slots) for near in SparseIndex(codec, codes).near(QUERIES)]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("metric", list(Metric))
def test_what_a_latent_adds_is_what_its_decoded_part_adds(metric: Metric) -> None:
    """A code with one latent alone decodes to the bias and z_j D_j, and one with none to the bias."""
    codec = codec_of(metric)
    codes, query = codec.encode(BASE[:20]), QUERIES[0]
    told = codec.contributions(query, codes)
    q = prepared(query[None], metric)[0].astype(np.float64)
    none = codes.copy()
    none[:, 2 * K :] = 0
    bias, whole = codec.decode(none).astype(np.float64), codec.decode(codes).astype(np.float64)
    length = np.linalg.norm(whole, axis=1) if metric is Metric.COSINE else np.ones(20)
    twice = 2 if metric is Metric.L2 else 1
    for place in range(K):
        alone = none.copy()
        alone[:, 2 * K + place] = codes[:, 2 * K + place]
        part = codec.decode(alone).astype(np.float64) - bias
        np.testing.assert_allclose(told.shares[:, place], twice * (part @ q) / length, rtol=1e-3, atol=1e-4)
    rest = bias @ q / length
    if metric is Metric.L2:
        rest = 2 * rest - q @ q - np.square(whole).sum(axis=1)
    np.testing.assert_allclose(told.rest, rest, rtol=1e-3, atol=1e-3)


def test_an_empty_index_answers_and_one_of_other_codes_is_refused(tiny_codec: Codec) -> None:
    with pytest.raises(TypeError, match="ScalarSpace"):
        SparseIndex(tiny_codec, np.empty((0, 6), np.uint8))
    codec = codec_of(Metric.L2)
    empty = SparseIndex(codec, np.empty((0, codec.code_bytes), np.uint8))
    assert len(empty) == empty.ram_bytes == 0
    assert (empty.search(QUERIES, 3, np.empty(0, np.uint8)).rows == -1).all()
    assert SparseIndex(codec, codec.encode(BASE[:9])).ram_bytes == 9 * (3 * K + 4)


@pytest.mark.parametrize("metric", list(Metric))
def test_buckets_find_neighbours(metric: Metric) -> None:
    codec = codec_of(metric)
    index = BucketIndex(SparseIndex(codec, codec.encode(BASE)))
    truth = exact_neighbours(BASE, QUERIES, 10, metric)
    found = index.search(QUERIES, 100, ALL, N // 4)
    assert (found.candidates == N // 4).all()
    assert recall(found.neighbours.rows, truth.rows).mean() > 0.85


def test_a_code_stands_in_the_buckets_of_its_strongest_latents() -> None:
    codec = codec_of(Metric.L2)
    codes = codec.encode(BASE[:200])
    keys, stored = codec.bucket_keys(codes, 9), codec.stored_latents(codes)
    assert keys.shape == (200, 4)
    strengths = np.take_along_axis(stored, keys.astype(np.int64), axis=1)
    assert np.array_equal(strengths[:, 0], stored.max(axis=1))
    full = (stored > 0).sum(axis=1) == K
    assert (np.diff(strengths[full], axis=1) <= 0).all()
    assert codec.bucket_count(9) == LATENTS > keys.max()
    nothing = np.zeros((1, codec.code_bytes), np.uint8)
    assert codec.bucket_keys(nothing).tolist() == [[0] * 4]


def test_the_space_tells_an_index_the_layout() -> None:
    codec = codec_of(Metric.L2)
    assert codec.space == SparseSpace(K, LATENTS, float(trained().unit))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("latents", {"latents": 70_000}),
        ("k", {"k": 0}),
        ("k", {"latents": 16, "k": 16}),
        ("dead_after", {"dead_after": 0}),
        ("revived", {"revived": 0}),
        ("revival", {"revival": 2.0}),
        ("lift", {"lift": -1.0}),
    ],
)
def test_a_bad_shape_is_named(field: str, values: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match=rf"^{field}:"):
        SparseConfig(**values)  # type: ignore[arg-type]
