"""FAISS's quantisers as a kind of codec: what can be asked for, and that they keep what FAISS keeps."""

import time
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from models import (
    BadConfig,
    LearnedCodec,
    Metric,
    QuantizerConfig,
    ResidualCodec,
    TooFewVectors,
    TooLittleTime,
    TrainingConfig,
    TrainingStopped,
    Vectors,
    exact_neighbours,
    fit,
    recall,
)
from models.factory import Shape
from models.quantizers import ProductQuantizer
from tests.conftest import clustered, started_codec

HOSTILE = [
    "",
    "Flat",
    "HNSW32",
    "IVF65536,PQ32x8",
    "IVF65536_HNSW32,Flat",
    "OPQ32_192,PQ32x8,RFlat",
    "PQ32x8,RFlat",
    "OPQ32_192,IVF9,PQ32x8",
    "PQ32x12",
    "PQ32",
    "PQ1000x8",
    "PQ-1x8",
    "PQ8x8\n",
    " PQ8x8",
    "PQ٨x8",
    "LSQ8x8",
    "PRQ2x4x8",
    "RaBitQ",
    "PCAW64,SQ8",
    "PCA100000,SQ8",
    "ITQ64,LSHt",
    "__import__('os')",
    "SQ8" * 1000,
]


@pytest.mark.parametrize("factory", HOSTILE)
def test_what_is_not_on_the_list_is_refused_by_name(factory: str) -> None:
    with pytest.raises(BadConfig, match=r"^factory: .* is none that is allowed: an optional OPQm_d") as refused:
        QuantizerConfig(factory)
    assert refused.value.field == "factory"
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("PQ0x8", "PQ0 is not between PQ1 and PQ256"),
        ("RQ257x8", "RQ257 is not between RQ1 and RQ256"),
        ("OPQ0,PQ8x8", "OPQ0 is not between OPQ1 and OPQ256"),
        ("OPQ4_0,PQ4x8", "keeps 0 numbers"),
        ("PCA00,SQ8", "keeps 0 numbers"),
        ("PCA65,SQ8", "PCA keeps 65 numbers of vectors that have 64; say 64 at most"),
        ("PQ7x8", "PQ7 does not divide 64 numbers: let it keep a multiple of 7"),
        ("OPQ5_64,PQ8x8", "OPQ5 does not divide 64 numbers"),
        ("OPQ8_48,PQ32x8", "PQ32 does not divide 48 numbers"),
    ],
)
def test_what_does_not_fit_says_what_would(factory: str, words: str) -> None:
    with pytest.raises(BadConfig, match=f"^factory: .*{words}"):
        QuantizerConfig(factory).shape(64)


def test_nothing_can_ask_for_gigabytes() -> None:
    with pytest.raises(BadConfig, match=r"RQ32 takes 1024 numbers at most, not 16384: begin with PCA1024,"):
        QuantizerConfig("RQ32x8").shape(16_384)
    with pytest.raises(BadConfig, match=r"RQ256 takes 256 numbers at most, not 1024: begin with PCA256,"):
        QuantizerConfig("RQ256x8").shape(1_024)
    for factory in ("OPQ8,PQ8x8", "PCA64,SQ8"):
        with pytest.raises(BadConfig, match="takes vectors of 4096 numbers at most, not 16384"):
            QuantizerConfig(factory).shape(16_384)
    assert QuantizerConfig("PQ256x8").shape(16_384) == Shape("", 0, 16_384, "PQ", 256)
    assert QuantizerConfig("PCA256,RQ256x8").shape(4_096) == Shape("PCA", 0, 256, "RQ", 256)
    assert QuantizerConfig("OPQ32_192,PQ32x8").shape(384) == Shape("OPQ", 32, 192, "PQ", 32)


def by_faiss(factory: str, seen: Vectors, base: Vectors) -> Vectors:
    """What the index of that string, trained on `seen`, decodes of `base`."""
    index = faiss.index_factory(base.shape[1], factory)
    if isinstance(inner := faiss.downcast_index(getattr(index, "index", index)), faiss.IndexPQ):
        inner.do_polysemous_training = False  # it takes seconds and changes the order of codewords only
    index.train(seen)
    return np.asarray(index.sa_decode(index.sa_encode(base)))


@pytest.mark.parametrize(
    ("factory", "size"),
    [("OPQ4_16,PQ4x8", 4), ("PCA64,PQ8x8", 8), ("PCA16,RQ2x8", 2), ("PCAR32,SQ4", 16), ("SQ8", 384)],
)
def test_the_codec_keeps_what_faiss_keeps(wordnet: Vectors, factory: str, size: int) -> None:
    base, queries = wordnet[:1800], wordnet[1800:]
    codec = fit(QuantizerConfig(factory), base, Metric.COSINE, TrainingConfig(held_out=0.01)).codec
    seen = np.sort(np.random.default_rng(0).permutation(len(base))[18:])  # all but the held-out hundredth
    assert (codec.kind, codec.code_bytes, isinstance(codec, ResidualCodec)) == ("faiss", size, "RQ" in factory)
    truth = exact_neighbours(base, queries, 10, Metric.COSINE).rows
    ours, theirs = (
        float(recall(exact_neighbours(decoded, queries, 10, Metric.COSINE).rows, truth).mean())
        for decoded in (codec.decode(codec.encode(base)), by_faiss(factory, base[seen], base))
    )
    assert abs(ours - theirs) < 0.03  # from one seed of k-means to the next it varies by .02


def test_product_codes_are_those_of_faiss() -> None:
    codec = started_codec(QuantizerConfig("PQ4x8"), Metric.L2)
    assert isinstance(codec, LearnedCodec)
    model: Any = codec._decoder
    assert isinstance(model, ProductQuantizer)
    quantizer = faiss.ProductQuantizer(8, 4, 8)
    faiss.copy_array_to_vector(model.codebooks.numpy().ravel(), quantizer.centroids)
    vectors = clustered(500, 8, 5)
    codes = codec.encode(vectors)
    assert (codes == quantizer.compute_codes(codec.latents(vectors))).mean() > 0.999
    np.testing.assert_allclose(codec.stored_latents(codes), quantizer.decode(codes), rtol=1e-6)


def test_scalar_codes_are_those_of_faiss() -> None:
    vectors = clustered(500, 8, 5)
    for factory, kind in (("SQ8", faiss.ScalarQuantizer.QT_8bit), ("SQ4", faiss.ScalarQuantizer.QT_4bit)):
        codec = started_codec(QuantizerConfig(factory), Metric.L2)
        quantizer = faiss.ScalarQuantizer(8, kind)
        seen = np.sort(np.random.default_rng(0).permutation(600)[30:])  # all but the held-out twentieth
        quantizer.train(codec.latents(clustered(600, 8)[seen]))
        same = quantizer.compute_codes(codec.latents(vectors)) == codec.encode(vectors)
        assert same.mean() > 0.999


def test_what_a_projection_leaves_out_of_the_mean_is_given_back() -> None:
    vectors = clustered(500, 8) + np.float32(100)
    codec = fit(QuantizerConfig("PCA2,SQfp16"), vectors, Metric.L2, TrainingConfig()).codec
    decoded = codec.decode(codec.encode(vectors))
    np.testing.assert_allclose(decoded.mean(axis=0), vectors.mean(axis=0), atol=0.3)


def test_equal_codewords_give_the_first_in_any_batch() -> None:
    model = ProductQuantizer(8, QuantizerConfig("PQ2x8"))
    model.codebooks.copy_(torch.from_numpy(clustered(512, 4, 3)).reshape(2, 256, 4))
    model.codebooks[:, 128:] = model.codebooks[:, :128]
    z = torch.from_numpy(clustered(3_000, 8, 4)).double()
    codes = model.double().pack(z)
    assert int(codes.max()) < 128
    assert torch.equal(torch.cat([model.pack(z[start : start + 7]) for start in range(0, len(z), 7)]), codes)


@pytest.mark.parametrize("factory", ["OPQ4,PQ4x8", "RQ3x8", "SQ4"])
def test_few_and_constant_vectors_make_a_codec(factory: str) -> None:
    few = clustered(20, 8)
    codec = fit(QuantizerConfig(factory), few, Metric.L2, TrainingConfig()).codec
    left = np.square(few - codec.decode(codec.encode(few))).sum() / np.square(few - few.mean(axis=0)).sum()
    assert left < 0.15  # but for the one held out, a vector is nearly a codeword of its own
    constant = np.full((300, 8), 3, np.float32)
    codec = fit(QuantizerConfig(factory), constant, Metric.L2, TrainingConfig()).codec
    np.testing.assert_allclose(codec.decode(codec.encode(constant[:5])), constant[:5], atol=1e-3)
    with pytest.raises(TooFewVectors, match="15 vectors are too few"):
        fit(QuantizerConfig(factory), few[:15], Metric.L2, TrainingConfig())


def test_the_curve_says_what_the_code_loses() -> None:
    vectors = clustered(400, 8)
    fitted = fit(QuantizerConfig("SQ8"), vectors, Metric.L2, TrainingConfig(held_out=0.1))
    start, end = fitted.run.epochs
    assert start.loss == pytest.approx(1, abs=1e-3)
    assert end.held_out_error < 1e-3 < 0.5 < start.held_out_error
    assert (fitted.run.best, fitted.run.trained_on) == (end, 360)


def test_a_training_is_ended_while_faiss_computes() -> None:
    vectors = np.random.default_rng(0).standard_normal((65_536, 64)).astype(np.float32)

    def stop(share: float, epoch: object) -> None:
        raise TrainingStopped

    began = time.monotonic()
    with pytest.raises(TrainingStopped):  # whole, it would take a minute
        fit(QuantizerConfig("OPQ16,PQ16x8"), vectors, Metric.L2, TrainingConfig(), progress=stop)
    with pytest.raises(TooLittleTime, match=r"had not trained OPQ16,PQ16x8 after 0\.01 minutes.*give it more"):
        fit(QuantizerConfig("OPQ16,PQ16x8"), vectors, Metric.L2, TrainingConfig(minutes=0.01))
    assert time.monotonic() - began < 30
    codec = fit(QuantizerConfig("PQ2x8"), clustered(300, 8), Metric.L2, TrainingConfig()).codec
    assert isinstance(codec, LearnedCodec)
