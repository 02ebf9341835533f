"""The contract of every index, judged against exact search."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import (
    BinaryConfig,
    Codec,
    DenseConfig,
    FlatCodec,
    LatentType,
    Metric,
    Neighbours,
    QuantizerConfig,
    ResidualConfig,
    SparseConfig,
    VariationalConfig,
    Vectors,
    exact_neighbours,
    recall,
)
from service.index import buckets as buckets_module
from service.index.buckets import BucketIndex
from service.index.exact import exact_search
from service.index.faiss import FaissIndex
from service.index.segment import Scan, scan_of
from tests.conftest import clustered, started_codec

N, DIM, K = 1500, 16, 10
BASE, QUERIES = clustered(N, DIM), clustered(40, DIM, 1)

Search = Callable[[Codec, Vectors, int, NDArray[np.bool_]], Neighbours]


def scan(codec: Codec) -> Scan:
    return scan_of(codec)(codec, codec.encode(BASE))


def by_faiss(codec: Codec, queries: Vectors, k: int, live: NDArray[np.bool_]) -> Neighbours:
    return scan(codec).search(queries, k, np.packbits(live, bitorder="little"))


def by_buckets(codec: Codec, queries: Vectors, k: int, live: NDArray[np.bool_]) -> Neighbours:
    index = BucketIndex(scan(codec))
    return index.search(queries, k, np.packbits(live, bitorder="little"), N // 4).neighbours


def by_scan(codec: Codec, queries: Vectors, k: int, live: NDArray[np.bool_]) -> Neighbours:
    rows = np.flatnonzero(live)
    blocks = ((rows[start : start + 700], BASE[rows[start : start + 700]]) for start in range(0, len(rows), 700))
    return exact_search(blocks, queries, k, codec.metric)


SEARCHES: dict[str, Search] = {"faiss": by_faiss, "buckets": by_buckets, "scan": by_scan}
CODECS: dict[str, Callable[[Metric], Codec]] = {
    "flat": lambda metric: FlatCodec(DIM, metric),
    "float16": lambda metric: started_codec(DenseConfig(16, LatentType.FLOAT16, decoder_hidden=()), metric, DIM),
    "int8": lambda metric: started_codec(DenseConfig(16, LatentType.INT8, decoder_hidden=()), metric, DIM),
    "variational": lambda metric: started_codec(VariationalConfig(16, LatentType.INT8, decoder_hidden=()), metric, DIM),
    "binary": lambda metric: started_codec(BinaryConfig(256), metric, DIM),
    "residual": lambda metric: started_codec(ResidualConfig.for_bytes(8, metric, beam=8), metric, DIM),
    "faiss-pq": lambda metric: started_codec(QuantizerConfig("OPQ8,PQ8x8"), metric, DIM),
    "faiss-rq": lambda metric: started_codec(QuantizerConfig("PCA16,RQ8x8"), metric, DIM),
    "sparse": lambda metric: started_codec(SparseConfig(latents=128, k=16), metric, DIM),
    "int4": lambda metric: started_codec(DenseConfig(15, LatentType.INT4, decoder_hidden=()), metric, DIM),
}


@pytest.fixture(params=list(SEARCHES))
def search(request: pytest.FixtureRequest) -> Search:
    return SEARCHES[request.param]


@pytest.fixture(params=[(kind, metric) for kind in CODECS for metric in Metric], ids=lambda pair: "-".join(pair))
def codec(request: pytest.FixtureRequest) -> Codec:
    kind, metric = request.param
    return CODECS[kind](metric)


def test_the_true_neighbours_are_in_the_shortlist(search: Search, codec: Codec) -> None:
    truth = exact_neighbours(BASE, QUERIES, K, codec.metric)
    found = search(codec, QUERIES, 100, np.ones(N, np.bool_))
    # Buckets look at a quarter of the codes, and hyperplanes know nothing of inner products' lengths.
    least = 0.97 if search is not by_buckets else 0.6 if codec.metric is Metric.IP else 0.85
    if codec.kind == "binary" and codec.metric is Metric.IP and search is by_faiss:
        least = 0.8  # bits have directions, not lengths
    assert recall(found.rows, truth.rows).mean() > least


def test_scores_fall_and_rows_do_not_repeat(search: Search, codec: Codec) -> None:
    found = search(codec, QUERIES, 50, np.ones(N, np.bool_))
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert all(len(set(rows)) == 50 for rows in found.rows.tolist())


def test_dead_rows_are_not_found_and_leave_their_place_to_others(search: Search, codec: Codec) -> None:
    live = np.ones(N, np.bool_)
    live[exact_neighbours(BASE, QUERIES, K, codec.metric).rows.ravel()] = False
    found = search(codec, QUERIES, K, live)
    assert (found.rows >= 0).all()
    assert live[found.rows].all()


def test_the_best_are_the_true_ones_among_the_living(codec: Codec) -> None:
    live = np.zeros(N, np.bool_)
    live[::7] = True
    truth = exact_neighbours(BASE[::7], QUERIES, K, codec.metric).rows * 7
    assert recall(by_faiss(codec, QUERIES, 60, live).rows, truth).mean() > 0.97
    assert np.array_equal(by_scan(codec, QUERIES, K, live).rows, truth)


def test_fewer_than_k_are_padded_with_minus_one(search: Search, codec: Codec) -> None:
    live = np.zeros(N, np.bool_)
    live[[3, 700, 1400]] = True
    found = search(codec, QUERIES[:2], K, live)
    for rows, scores in zip(found.rows, found.scores, strict=True):
        assert sorted(rows.tolist()) == [-1] * 7 + [3, 700, 1400]
        assert np.isneginf(scores[rows < 0]).all()


def test_one_query_gets_what_it_gets_in_a_batch(search: Search, codec: Codec) -> None:
    live = np.ones(N, np.bool_)
    together = search(codec, QUERIES, K, live)
    alone = search(codec, QUERIES[7:8], K, live)
    assert recall(alone.rows, together.rows[7:8]).mean() >= 0.9  # rounding may swap equal scores at the edge


def test_the_codes_in_faiss_are_those_that_were_given() -> None:
    codec = CODECS["int4"](Metric.COSINE)
    codes = codec.encode(BASE)
    index = FaissIndex(codec, codes)
    assert np.array_equal(index.codes, codes)
    assert index.ram_bytes == N * codec.code_bytes


def test_faiss_orders_by_the_distance_of_latents() -> None:
    codec = CODECS["int8"](Metric.L2)
    found = by_faiss(codec, QUERIES, 5, np.ones(N, np.bool_))
    latents, points = codec.stored_latents(codec.encode(BASE)), codec.points(QUERIES)
    distances = ((points[:, None] - latents) ** 2).sum(axis=2)
    np.testing.assert_allclose(-found.scores, np.sort(distances, axis=1)[:, :5], rtol=1e-3, atol=1e-3)


def test_buckets_score_no_more_than_they_may() -> None:
    codec = CODECS["int8"](Metric.COSINE)
    index = BucketIndex(FaissIndex(codec, codec.encode(BASE)))
    live = np.packbits(np.ones(N, np.bool_), bitorder="little")
    few, many = index.search(QUERIES, K, live, 100), index.search(QUERIES, K, live, 400)
    assert (few.candidates == 100).all()
    assert (many.candidates == 400).all()
    truth = exact_neighbours(BASE, QUERIES, K, Metric.COSINE).rows
    assert recall(many.neighbours.rows, truth).mean() > recall(few.neighbours.rows, truth).mean()


def test_with_every_code_scored_buckets_find_what_faiss_finds() -> None:
    codec = CODECS["int8"](Metric.L2)
    index = BucketIndex(FaissIndex(codec, codec.encode(BASE)))
    live = np.packbits(np.ones(N, np.bool_), bitorder="little")
    all_of_them = index.search(QUERIES, K, live, N).neighbours
    assert recall(all_of_them.rows, by_faiss(codec, QUERIES, K, np.ones(N, np.bool_)).rows).mean() > 0.99


ALL = np.packbits(np.ones(N, np.bool_), bitorder="little")
HASHED: dict[str, BucketIndex] = {}


def hashed(kind: str) -> BucketIndex:
    """Made once for all examples."""
    if kind not in HASHED:
        HASHED[kind] = BucketIndex(scan(CODECS[kind](Metric.COSINE)))
    return HASHED[kind]


@pytest.mark.parametrize("kind", ["int8", "binary", "sparse", "residual"])
@settings(max_examples=15, deadline=None)
@given(query=st.integers(0, 39), most=st.integers(1, 5000), bits=st.integers(2, 16))
def test_the_nearest_buckets_are_the_cheapest(kind: str, query: int, most: int, bits: int) -> None:
    codec = hashed(kind).codec
    latents = codec.latents(QUERIES[query : query + 1])[0]
    costs = codec.bucket_costs(latents, bits).ravel()
    nearest = codec.nearest_buckets(latents, bits, most)
    assert len(set(nearest.tolist())) == len(nearest) == min(most, len(costs))
    np.testing.assert_allclose(costs[nearest], np.sort(costs)[:most], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "binary"])
@settings(max_examples=12, deadline=None)
@given(query=st.integers(0, 39), probes=st.integers(1, 4500), alive=st.sampled_from([0.05, 0.6, 1.0]))
def test_a_look_scores_the_codes_of_the_buckets_it_says(kind: str, query: int, probes: int, alive: float) -> None:
    index, asked = hashed(kind), QUERIES[query : query + 1]
    codec, live = index.codec, np.random.default_rng(query).random(N) < alive
    look = index.search(asked, N, np.packbits(live, bitorder="little"), 0, probes)
    found = set(look.neighbours.rows[look.neighbours.rows >= 0].tolist())
    latents, keys = codec.latents(asked)[0], codec.bucket_keys(codec.encode(BASE), index.bits).astype(np.int64)
    buckets = set(codec.nearest_buckets(latents, index.bits, probes).tolist())
    numbers = keys + np.arange(4) * codec.bucket_count(index.bits)
    assert found == {slot for slot in range(N) if live[slot] and not buckets.isdisjoint(numbers[slot].tolist())}
    assert (look.tables, look.candidates[0], look.cut[0]) == (4, len(found), False)
    if len(found) == live.sum():  # it stops when there is nothing more to find
        assert (look.probes[0] <= len(buckets), look.radius[0]) == (True, index.bits)
        return
    assert look.probes[0] == len(buckets)
    own = codec.query_key(latents, index.bits)
    assert own is not None
    distances = np.bitwise_count(keys ^ own).min(axis=1)
    assert set(np.flatnonzero(live & (distances <= look.radius[0])).tolist()) <= found
    balls = [
        {
            table * 2**index.bits + key
            for table in range(4)
            for key in range(2**index.bits)
            if apart(key, own[table]) <= r
        }
        for r in range(index.bits + 1)
    ]
    assert look.radius[0] == sum(ball <= buckets for ball in balls) - 1


def apart(one: int, other: np.uint16) -> int:
    return (one ^ int(other)).bit_count()


def test_a_wanted_number_of_codes_ends_within_a_bucket() -> None:
    index = hashed("binary")
    for wanted in (100, 300, N - 1):
        look = index.search(QUERIES, N, ALL, wanted)
        assert (look.candidates == wanted).all()
        for query, (rows, probes) in enumerate(zip(look.neighbours.rows, look.probes.tolist(), strict=True)):
            if probes <= 4:  # the query's own buckets cost nothing, whichever comes first
                continue
            whole = index.search(QUERIES[query : query + 1], N, ALL, 0, probes).neighbours.rows[0]
            assert set(rows[rows >= 0].tolist()) <= set(whole.tolist())
            less = index.search(QUERIES[query : query + 1], N, ALL, 0, probes - 1).candidates[0]
            assert less <= wanted
    every = index.search(QUERIES, 5, ALL, N)
    assert (every.probes == 0).all()
    assert (every.radius == index.bits).all()
    assert (every.candidates == N).all()


def test_keys_that_are_no_bits_have_no_radius() -> None:
    for kind, tables in (("sparse", 4), ("residual", 1)):
        look = hashed(kind).search(QUERIES, 5, ALL, 0, 50)
        assert look.tables == tables
        assert (look.radius == -1).all()
        assert (look.probes == 50).all()


def test_a_look_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets_module, "ROUND", 100)
    index = hashed("binary")
    whole, looked = index.search(QUERIES[:3], 10, ALL, 0, 2_000), iter([False, False, True, False, True])
    cut = index.search(QUERIES[:3], 10, ALL, 0, 2_000, lambda: next(looked, True))
    assert cut.cut.tolist() == [True, True, True]
    assert 250 < cut.candidates[0] < whole.candidates[0] > 400
    assert 90 < cut.candidates[1] < cut.candidates[0]
    assert (cut.probes[2], cut.candidates[2], cut.radius[2]) == (0, 0, -1)
    assert (cut.neighbours.rows[2] == -1).all()
    assert not whole.cut.any()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_indexes_answer(n: int) -> None:
    codec = CODECS["int8"](Metric.L2)
    codes = codec.encode(BASE[:n])
    live = np.packbits(np.ones(n, np.bool_), bitorder="little")
    index = BucketIndex(FaissIndex(codec, codes))
    assert sorted(index.search(QUERIES[:1], 3, live, 10).neighbours.rows[0].tolist()) == sorted(
        [-1] * (3 - n) + list(range(n))
    )
    assert len(FaissIndex(codec, codes)) == n


@pytest.mark.parametrize("offset", [100.0, 10_000.0])
def test_l2_far_from_the_origin_keeps_its_digits(offset: float) -> None:
    base, queries = BASE + np.float32(offset), QUERIES + np.float32(offset)
    wide_base, wide_queries = base.astype(np.float64), queries.astype(np.float64)
    distances = ((wide_queries[:, None] - wide_base) ** 2).sum(axis=2)
    truth = np.argsort(distances, axis=1, kind="stable")[:, :K]
    found = exact_search([(np.arange(N), base)], queries, K, Metric.L2)
    assert recall(found.rows, truth).mean() > 0.99
    np.testing.assert_allclose(-found.scores, np.sort(distances, axis=1)[:, :K], rtol=1e-2)


def test_an_empty_block_is_passed_over() -> None:
    nothing = np.empty(0, np.int64), np.empty((0, DIM), np.float32)
    found = exact_search([nothing, (np.arange(N), BASE), nothing], QUERIES, K, Metric.L2)
    assert np.array_equal(found.rows, exact_neighbours(BASE, QUERIES, K, Metric.L2).rows)
    assert (exact_search([nothing], QUERIES, K, Metric.L2).rows == -1).all()
