"""The contract of every codec."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import (
    BadCodes,
    BadConfig,
    BadVectors,
    BinaryConfig,
    Codec,
    CodecConfig,
    DamagedCodec,
    DenseConfig,
    FlatCodec,
    LatentType,
    LearnedCodec,
    Metric,
    QuantizerConfig,
    ResidualCodec,
    ResidualConfig,
    SparseCodec,
    SparseConfig,
    Sparsity,
    TrainingConfig,
    VariationalConfig,
    exact_neighbours,
    fit,
    kind_of,
    load_codec,
    recall,
)
from models.kinds import KINDS
from tests.conftest import clustered, started_codec

DIM = 8
CODECS: dict[str, Callable[[], Codec]] = {
    "flat-cosine": lambda: FlatCodec(DIM, Metric.COSINE),
    "flat-l2": lambda: FlatCodec(DIM, Metric.L2),
    "float16": lambda: started_codec(DenseConfig(8, LatentType.FLOAT16, decoder_hidden=()), Metric.COSINE),
    "int8": lambda: started_codec(DenseConfig(8, LatentType.INT8, decoder_hidden=()), Metric.L2),
    "int4": lambda: started_codec(DenseConfig(7, LatentType.INT4, decoder_hidden=()), Metric.IP),
    "variational": lambda: started_codec(VariationalConfig(8, LatentType.INT8, (16,), (16,)), Metric.COSINE),
    "sparse": lambda: started_codec(SparseConfig(latents=64, k=8), Metric.COSINE),
    "sparse-batch": lambda: started_codec(SparseConfig(64, 8, Sparsity.BATCH_TOPK), Metric.COSINE),
    "sparse-l1": lambda: started_codec(SparseConfig(64, 8, Sparsity.L1), Metric.IP),
    "binary": lambda: started_codec(BinaryConfig(64), Metric.COSINE),
    "residual": lambda: started_codec(ResidualConfig(4, beam=8), Metric.COSINE),
    "residual-l2": lambda: started_codec(ResidualConfig(4, beam=8), Metric.L2),
    "residual-l2-error": lambda: started_codec(ResidualConfig(7, beam=8, error_byte=True), Metric.L2),
    "residual-ip": lambda: started_codec(ResidualConfig(4, beam=8), Metric.IP),
    "faiss-pq": lambda: started_codec(QuantizerConfig("PQ8x8"), Metric.COSINE),
    "faiss-opq": lambda: started_codec(QuantizerConfig("OPQ3_6,PQ6x8"), Metric.L2),
    "faiss-rq": lambda: started_codec(QuantizerConfig("PCA7,RQ4x8"), Metric.COSINE),
    "faiss-sq8": lambda: started_codec(QuantizerConfig("PCA7,SQ8"), Metric.IP),
    "deep": lambda: started_codec(DenseConfig(8, LatentType.INT8, (16, 12), (12, 16)), Metric.COSINE),
}


@pytest.fixture(params=list(CODECS), scope="module")
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]()


def test_codes_are_bytes_of_the_stated_width(codec: Codec) -> None:
    codes = codec.encode(clustered(37, DIM))
    assert codes.dtype == np.uint8
    assert codes.shape == (37, codec.code_bytes)
    assert len(codes.tobytes()) == 37 * codec.code_bytes


def test_decoding_keeps_the_neighbours(codec: Codec) -> None:
    base, queries = clustered(400, DIM), clustered(30, DIM, 1)
    truth = exact_neighbours(base, queries, 10, codec.metric)
    decoded = exact_neighbours(codec.decode(codec.encode(base)), queries, 10, codec.metric)
    # Eight numbers in 64 bits, or in eight of 64 directions, and none of it trained: rough, but far from chance (.025).
    least = 0.5 if codec.kind in ("binary", "sparse") else 0.7
    assert recall(decoded.rows, truth.rows).mean() > least


def test_the_codecs_score_is_that_of_the_decoded_vector(codec: Codec) -> None:
    base, queries = clustered(20, DIM), clustered(4, DIM, 1)
    codes = codec.encode(base)
    scores = codec.scores(queries, np.broadcast_to(codes, (4, 20, codec.code_bytes)))
    decoded = codec.decode(codes).astype(np.float64)
    if codec.metric is Metric.L2:
        errors = codec.errors(codes)
        expected = -((queries[:, None] - decoded) ** 2).sum(axis=2) - (0 if errors is None else errors)
    else:
        expected = queries.astype(np.float64) @ decoded.T
        if codec.metric is Metric.COSINE:
            expected /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(decoded, axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


@given(data=st.data())
def test_a_code_does_not_depend_on_its_batch(codec: Codec, data: st.DataObject) -> None:
    vectors = clustered(300, DIM, data.draw(st.integers(0, 30)))
    cut = data.draw(st.integers(1, 299))
    together = codec.encode(vectors)
    assert np.array_equal(together, np.concatenate((codec.encode(vectors[:cut]), codec.encode(vectors[cut:]))))
    assert np.array_equal(together[cut : cut + 1], codec.encode(vectors[cut : cut + 1]))


@given(data=st.data())
def test_whatever_comes_in_is_decoded_to_something_finite(codec: Codec, data: st.DataObject) -> None:
    numbers = st.floats(-1e4, 1e4, width=32).filter(lambda number: number == 0 or abs(number) > 1e-4)
    vectors = data.draw(arrays(np.float32, (data.draw(st.integers(1, 4)), DIM), elements=numbers))
    vectors[:, 0] += 1  # under cosine a vector has a direction
    vectors = vectors[np.linalg.norm(vectors, axis=1) > 1e-3]
    codes = codec.encode(vectors)
    assert np.array_equal(codec.encode(vectors), codes)
    decoded = codec.decode(codes)
    assert decoded.shape == vectors.shape
    assert np.isfinite(decoded).all()


@given(data=st.data())
def test_the_first_vector_that_is_not_finite_is_named(codec: Codec, data: st.DataObject) -> None:
    vectors = clustered(20, DIM)
    rows = data.draw(st.sets(st.integers(0, 19), min_size=1))
    for row in rows:
        vectors[row, data.draw(st.integers(0, DIM - 1))] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    with pytest.raises(BadVectors, match=f"vector {min(rows)} holds"):
        codec.encode(vectors)


def test_nothing_encodes_to_nothing(codec: Codec) -> None:
    assert codec.encode(np.empty((0, DIM), np.float32)).shape == (0, codec.code_bytes)
    assert codec.decode(np.empty((0, codec.code_bytes), np.uint8)).shape == (0, DIM)


def test_arguments_are_not_changed(codec: Codec) -> None:
    vectors = clustered(5, DIM)
    before = vectors.copy()
    codes = codec.encode(vectors)
    kept = codes.copy()
    codec.decode(codes)
    codec.bucket_keys(codes)
    assert np.array_equal(vectors, before)
    assert np.array_equal(codes, kept)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.zeros((2, DIM)), "float32.*float64"),
        (np.zeros((2, DIM + 1), np.float32), r"\(n, 8\).*\(2, 9\)"),
        (np.zeros(DIM, np.float32), r"\(n, 8\).*\(8,\)"),
        (np.array([[0.0] * DIM, [0.0, np.nan] * 4], np.float32), "vector 1 holds NaN"),
        (np.array([[np.inf] * DIM], np.float32), "vector 0 holds NaN or infinity"),
    ],
)
def test_bad_vectors_are_refused_by_name(codec: Codec, vectors: np.ndarray, words: str) -> None:
    with pytest.raises(BadVectors, match=words):
        codec.encode(vectors)


def test_bad_codes_are_refused_by_name(codec: Codec) -> None:
    with pytest.raises(BadCodes, match=rf"\(n, {codec.code_bytes}\)"):
        codec.decode(np.zeros((2, codec.code_bytes + 1), np.uint8))
    with pytest.raises(BadCodes, match="uint8"):
        codec.decode(np.zeros((2, codec.code_bytes), np.int64))


def test_bucket_keys_are_the_signs_of_the_margins(codec: Codec) -> None:
    if isinstance(codec, SparseCodec | ResidualCodec):
        pytest.skip("its keys are active latents or leading bytes: tests/test_sparse.py, tests/test_residual.py")
    codes = codec.encode(clustered(50, DIM))
    margins = codec.bucket_margins(codec.stored_latents(codes))
    keys = codec.bucket_keys(codes, 5)
    for bit in range(5):
        assert np.array_equal((keys >> bit) & 1, margins[:, :, bit] > 0)
    assert keys.max() < 32


def test_a_reloaded_codec_gives_the_same_codes(codec: Codec) -> None:
    if not isinstance(codec, LearnedCodec | ResidualCodec):
        pytest.skip("nothing of it was learned")
    vectors = clustered(500, DIM, 3)
    again = load_codec(codec.to_bytes())
    assert isinstance(again, LearnedCodec | ResidualCodec)
    codes = codec.encode(vectors)
    assert np.array_equal(again.encode(vectors), codes)
    assert np.array_equal(again.decode(codes), codec.decode(codes))
    assert np.array_equal(again.bucket_keys(codes), codec.bucket_keys(codes))
    assert again.fingerprint == codec.fingerprint
    assert (again.kind, again.metric, again.config) == (codec.kind, codec.metric, codec.config)


TRAINED: dict[str, CodecConfig] = {
    "dense": DenseConfig(4, LatentType.INT8, decoder_hidden=(8,)),
    "variational": VariationalConfig(4, LatentType.INT8, decoder_hidden=(8,)),
    "sparse": SparseConfig(latents=32, k=4),
    "binary": BinaryConfig(16),
    "residual": ResidualConfig(3, beam=8),
    "faiss": QuantizerConfig("OPQ2,PQ2x8"),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_coordinates_that_are_always_zero_are_no_obstacle(kind: str) -> None:
    """Bags of six out of 16 words, each a coordinate of 256: LAPACK gives up on so many equal eigenvalues."""
    rng, bags = np.random.default_rng(0), np.zeros((600, 256), np.float32)
    words = rng.choice(256, 16, replace=False)
    np.add.at(bags, (np.arange(600)[:, None], words[rng.integers(0, 16, (600, 6))]), 1)
    config = QuantizerConfig("PQ8x8") if kind == "faiss" else TRAINED[kind]
    codec = fit(config, bags, Metric.L2, TrainingConfig(epochs=5)).codec
    decoded = codec.decode(codec.encode(bags))
    assert np.square(decoded - bags).sum() < np.square(bags - bags.mean(axis=0)).sum(), "than no code at all"


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_same_seed_gives_the_same_codec(kind: str) -> None:
    config = TRAINED[kind]
    assert kind_of(config) is KINDS[kind]
    codecs = [
        fit(config, clustered(300, DIM), Metric.L2, TrainingConfig(epochs=1, seed=seed)).codec for seed in (1, 1, 2)
    ]
    assert codecs[0].fingerprint == codecs[1].fingerprint != codecs[2].fingerprint
    vectors = clustered(50, DIM, 1)
    assert np.array_equal(codecs[0].encode(vectors), codecs[1].encode(vectors))


def test_another_process_gives_the_same_codes(tiny_codec: Codec, tmp_path: Path) -> None:
    vectors = clustered(100, DIM, 4)
    (tmp_path / "codec").write_bytes(tiny_codec.to_bytes())
    np.save(tmp_path / "x.npy", vectors)
    program = (
        "import sys, numpy as np; from models import load_codec;"
        "c = load_codec(open('codec', 'rb').read());"
        "codes = c.encode(np.load('x.npy')); np.save('codes.npy', codes); np.save('keys.npy', c.bucket_keys(codes))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    codes = tiny_codec.encode(vectors)
    assert np.array_equal(np.load(tmp_path / "codes.npy"), codes)
    assert np.array_equal(np.load(tmp_path / "keys.npy"), tiny_codec.bucket_keys(codes))


def test_different_weights_have_different_fingerprints(tiny_codec: Codec) -> None:
    other = started_codec(DenseConfig(6, LatentType.INT8, decoder_hidden=(9,)), Metric.L2)
    assert other.fingerprint != tiny_codec.fingerprint


@given(st.data())
def test_damaged_bytes_are_refused(tiny_codec: Codec, data: st.DataObject) -> None:
    saved = bytearray(tiny_codec.to_bytes())
    if data.draw(st.booleans()):
        saved = saved[: data.draw(st.integers(0, len(saved) - 1))]
    else:
        position = data.draw(st.integers(0, len(saved) - 1))
        saved[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        again = load_codec(bytes(saved))
    except (DamagedCodec, BadConfig):
        return
    # A flipped bit in the JSON's white space or in an unused character of the header may harm nothing.
    assert again.fingerprint == tiny_codec.fingerprint


def test_sizes_follow_the_byte_budget() -> None:
    assert DenseConfig.for_bytes(384, 64).latents == 128
    assert DenseConfig.for_bytes(384, 64).latent_type is LatentType.INT4
    assert DenseConfig.for_bytes(64, 64) == DenseConfig(64, LatentType.INT8)
    assert DenseConfig.for_bytes(32, 64) == DenseConfig(32, LatentType.FLOAT16)
    assert DenseConfig.for_bytes(100, 64) == DenseConfig(100, LatentType.INT4)


@pytest.mark.parametrize(
    ("field", "values"),
    [("latents", {"latents": 0}), ("hidden", {"hidden": (0,)}), ("decoder_hidden", {"decoder_hidden": (1,) * 5})],
)
def test_a_bad_shape_is_named(field: str, values: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match=field):
        DenseConfig(**values)  # type: ignore[arg-type]
