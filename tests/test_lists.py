"""Residual codes in inverted lists: what a share of them finds, where their bytes are, and how the share is tuned."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import (
    Codes,
    Metric,
    Neighbours,
    ResidualCodec,
    ResidualConfig,
    Scores,
    Vectors,
    exact_neighbours,
    farther,
    recall,
)
from service.certificate import certify
from service.index import additive, coarse
from service.index.additive import AdditiveIndex
from service.index.buckets import BucketIndex
from service.index.coarse import CODEWORDS
from service.index.segment import IndexKind
from service.index.view import View
from service.losses import Asked, Losses
from service.questions import HeldOut, Questions
from service.search import Plan, Stage, search
from service.tuning import narrowest
from tests.conftest import clustered, started_codec

N, DIM, K = 3000, 16, 10
BASE, QUERIES = clustered(N, DIM), clustered(60, DIM, 1)
LIVE = np.packbits(np.ones(N, np.bool_), bitorder="little")


@pytest.fixture(
    scope="module", params=[(metric, lists) for metric in Metric for lists in (1, 2)], ids=lambda p: f"{p[0]}-{p[1]}"
)
def index(request: pytest.FixtureRequest) -> Iterator[AdditiveIndex]:
    """Lists by the first byte, and by the first two."""
    metric, width = request.param
    codec = started_codec(ResidualConfig.for_bytes(8, metric, beam=8), metric, DIM)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(coarse, "PAIRED", 0 if width == 2 else N + 1)
        index = AdditiveIndex(codec, codec.encode(BASE))
        assert (len(index._coarse) > CODEWORDS) == (width == 2)
        yield index


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(additive, "FEWEST_SCANNED", 10)


def truth_of(codec: ResidualCodec, k: int = K) -> NDArray[np.int64]:
    return by_decoded(codec, codec.encode(BASE), k).rows


def by_decoded(codec: ResidualCodec, codes: Codes, k: int) -> Neighbours:
    return exact_neighbours(*farther(codec.decode(codes), QUERIES, codec.errors(codes)), k, codec.metric)


def test_every_list_looked_at_finds_what_decoded_vectors_find(index: AdditiveIndex) -> None:
    found = index.search(QUERIES, K, LIVE)
    wanted = by_decoded(index.codec, index.codes[:], K)
    shared = recall(found.rows, wanted.rows)
    assert shared.mean() > 0.99  # under cosine FAISS knows lengths by their shares, and may miss one
    whole = shared == 1
    np.testing.assert_allclose(found.scores[whole], wanted.scores[whole], rtol=1e-4, atol=1e-4)


def test_more_is_found_the_larger_the_share(index: AdditiveIndex) -> None:
    wanted = truth_of(index.codec)
    least = 0.02 if len(index._coarse) <= CODEWORDS else 0.004
    shares = [recall(index.search(QUERIES, K, LIVE, share).rows, wanted).mean() for share in (least, 0.1, 0.4, 1)]
    assert shares == sorted(shares)
    assert shares[0] < 0.95 < shares[2]
    assert index.scanned(N, 0.1) == N // 10


@pytest.mark.parametrize("metric", list(Metric))
def test_lists_by_two_bytes_find_as_much_in_fewer_codes(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = started_codec(ResidualConfig.for_bytes(8, metric, beam=8), metric, DIM)
    codes, found = codec.encode(BASE), []
    for paired, share in ((N + 1, 0.05), (N, 0.025)):
        monkeypatch.setattr(coarse, "PAIRED", paired)
        index = AdditiveIndex(codec, codes)
        found.append(recall(index.search(QUERIES, K, LIVE, share).rows, truth_of(index.codec)).mean())
    assert found[1] >= found[0] > 0.5


def test_lists_are_near_by_the_scores_of_their_leading_codewords(index: AdditiveIndex) -> None:
    near, books = index._coarse, index.codec.codebooks
    width = 1 if len(near) <= CODEWORDS else 2
    firsts = index.codes.firsts()[:, :width]
    sums = sum(books[byte][firsts[:, byte]] for byte in range(width))
    for point, tables in zip(points := index.codec.points(QUERIES), index._tables(points), strict=True):
        scores = sums @ point[:-1] + point[-1] * np.square(sums).sum(axis=1)
        found = near.nearest(tables, float(point[-1]), 20)
        assert found.tolist() == sorted(found)
        assert len(set(found)) == 20
        assert scores[found].min() >= np.sort(scores)[-20] - 1e-4


def test_few_pairs_of_bytes_stand_in_lists_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "PAIRED", 0)
    codes = np.random.default_rng(0).integers(0, (3, 80, 256), (500, 3)).astype(np.uint8)
    index = AdditiveIndex(THREE, codes)
    assert len(index._coarse) == 3
    assert np.array_equal(index.codes[:], codes)


def test_lists_of_an_earlier_version_are_read(index: AdditiveIndex, tmp_path: Path) -> None:
    """They were 256 by the first byte, some of them empty, filled code by code."""
    codec, codes = index.codec, index.codes[:]
    entries = index.codes.entries(slice(None))
    lists = additive._unfilled(entries.shape[1], CODEWORDS)
    held = faiss.ArrayInvertedLists(CODEWORDS, entries.shape[1])
    lists.replace_invlists(held, False)
    faiss.copy_array_to_vector(faiss.vector_to_array(index._lists.pq.centroids), lists.pq.centroids)
    lists.add_sa_codes(np.hstack((codes[:, :1], entries)), np.arange(N))
    faiss.write_index(lists, str(tmp_path / additive.INDEX))
    np.save(tmp_path / additive.SQUARES, index.squares)
    mapped = AdditiveIndex.mapped(codec, tmp_path)
    assert np.array_equal(mapped.codes[:], codes)
    assert np.array_equal(mapped.search(QUERIES, K, LIVE).rows, index.search(QUERIES, K, LIVE).rows)


def test_of_few_live_codes_so_many_more_lists_are_looked_at(index: AdditiveIndex) -> None:
    live = np.zeros(N, np.bool_)
    live[::20] = True
    few = np.packbits(live, bitorder="little")
    narrow, whole = index.search(QUERIES, K, few, 0.05), index.search(QUERIES, K, few)
    assert np.array_equal(narrow.rows, whole.rows)  # a twentieth of all codes is all that live


def test_k_are_found_where_the_nearest_lists_hold_fewer(index: AdditiveIndex) -> None:
    far = exact_neighbours(BASE, -QUERIES[:1], 400, Metric.IP).rows[0]
    live = np.zeros(N, np.bool_)
    live[far] = True
    found = index.search(QUERIES[:1], 300, np.packbits(live, bitorder="little"), 0.01)
    assert len(set(found.rows[0].tolist())) == 300
    assert live[found.rows].all()


def test_scores_are_the_codecs_own(index: AdditiveIndex) -> None:
    slots = np.random.default_rng(2).integers(0, N, (len(QUERIES), 30))
    slots[:, 7] = -1
    scores = index.scores(QUERIES, slots)
    own = index.codec.scores(QUERIES, index.codec.encode(BASE)[slots])
    there = slots >= 0
    np.testing.assert_allclose(scores[there], own[there], rtol=1e-4, atol=1e-4)
    assert np.isneginf(scores[:, 7]).all()


def test_buckets_score_every_code_by_the_codecs_own_score(index: AdditiveIndex) -> None:
    found = BucketIndex(index).search(QUERIES, K, LIVE, N).neighbours
    assert recall(found.rows, truth_of(index.codec)).mean() == 1
    np.testing.assert_array_less(index.search(QUERIES, K, LIVE).scores, found.scores + 1e-3)


def test_lengths_of_codes_are_worked_out_once(index: AdditiveIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, codes, seen, real = index.codec, index.codes[:], list[int](), index.codec.squares

    def squares(some: Codes) -> Scores:
        seen.append(len(some))
        return real(some)

    monkeypatch.setattr(codec, "squares", squares)
    view = View.of(1, codec, 0, np.arange(100), codes[:100])
    dead = np.arange(0, 2_000, 7)
    for start, end, gone in ((100, 1_000, dead[dead < 100]), (1_000, 1_500, dead[dead < 1_000]), (1_500, N, dead)):
        view = view.applied(end, np.arange(start, end), codes[start:end], gone)
    last = view.applied(N + 1, N + np.arange(3_000), codes, np.empty(0, np.int64))
    assert (len(last.tail), sum(seen)) == (0, 2 * N), "the last step folds all of them into the base"
    live = np.setdiff1d(np.arange(N), dead)
    every = np.concatenate((live, N + np.arange(3_000)))
    fresh = View.of(1, codec, N + 1, every, codes[every % N])
    here, there = (one.search(QUERIES, K, IndexKind.FAISS) for one in (last, fresh))
    assert np.array_equal(here.rows, there.rows)
    assert np.array_equal(here.scores, there.scores)


def test_mapped_files_answer_alike_and_leave_codes_on_the_disk(index: AdditiveIndex, tmp_path: Path) -> None:
    codes = index.codec.encode(BASE)
    AdditiveIndex.write(index.codec, [codes[:1000], codes[1000:]], tmp_path)
    mapped = AdditiveIndex.mapped(index.codec, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(AdditiveIndex.files)
    ours, theirs = index.search(QUERIES, K, LIVE, 0.2), mapped.search(QUERIES, K, LIVE, 0.2)
    assert np.array_equal(ours.rows, theirs.rows)
    assert np.array_equal(ours.scores, theirs.scores)
    assert np.array_equal(mapped.codes[:], codes)
    assert faiss.downcast_InvertedLists(mapped._lists.invlists).prefetch_nthread == 0
    stored = 8 + int(index.codec.metric is Metric.L2)
    assert index.ram_bytes == mapped.ram_bytes == N * (stored + 8 + 4 + 4) + 184 * len(index._coarse)
    assert mapped.mapped_bytes == N * (stored + 8 + 4)


@given(st.lists(st.binary(min_size=3, max_size=3), max_size=60), st.data())
def test_codes_are_read_where_their_slots_are(given_codes: list[bytes], data: st.DataObject) -> None:
    codes = np.frombuffer(b"".join(given_codes), np.uint8).reshape(-1, 3)
    index = AdditiveIndex(THREE, codes)
    assert len(index.codes) == len(codes)
    assert np.array_equal(index.codes[:], codes)
    if len(codes):
        slots = np.array(data.draw(st.lists(st.integers(0, len(codes) - 1), min_size=1, max_size=9)))
        assert np.array_equal(index.codes[slots], codes[slots])
        assert np.array_equal(index.codes[slots[:, None]], codes[slots[:, None]])


THREE = started_codec(ResidualConfig(3, beam=4), Metric.L2, 4)


def test_the_share_is_the_smallest_that_keeps_99_of_100() -> None:
    given_back = {0.01: 0.5, 0.02: 0.6, 0.03: 0.7, 0.05: 0.80, 0.1: 0.88, 0.15: 0.895}
    given_back |= dict.fromkeys((0.2, 0.3, 0.4, 0.6, 1), 0.90)

    def recalls(k: int, scan: float) -> NDArray[np.float64]:
        return np.full(50, given_back[scan])

    assert narrowest(recalls, K, {}) == 0.15
    assert narrowest(recalls, K, {K: 0.999}) == 1


def test_a_certificate_is_measured_with_the_share_it_was_tuned_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(additive, "FEWEST_SCANNED", 110)  # a shortlist has 100: of fewer all codes are looked at
    vectors = clustered(N + 400, DIM)
    codec = started_codec(ResidualConfig(8, beam=8), Metric.COSINE, DIM)
    rows = np.arange(len(vectors))
    view = View.of(1, codec, 0, rows, codec.encode(vectors))
    held_out = HeldOut(rows[N:], _prepared(vectors[N:]))
    asked = Questions.of(view, held_out, [(rows, _prepared(vectors))])
    certificate = certify(asked, len(view), (Stage.REFINE, Stage.RESCORE), {}, 100)
    scan = certificate["scan"]
    assert 0 < scan < 1
    assert certificate["queries"] == certificate["tuned_on"] == 200
    whole, narrow = (asked.recall(Plan(K, 10, IndexKind.FAISS, Stage.RESCORE, share)).mean() for share in (1, scan))
    assert 0.98 * whole < narrow
    assert narrow != whole
    assert certificate["recall@10"]["faiss"]["rescore"] == pytest.approx(narrow, abs=0.02)
    found = search(view, held_out.vectors, Plan(K, 10, IndexKind.FAISS, Stage.REFINE, scan), lambda _: {})
    assert (found.rows[:, 0] == held_out.rows).mean() > 0.9


def _prepared(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def test_originals_are_read_of_what_comes_near_to_the_best(index: AdditiveIndex) -> None:
    codec, reads = index.codec, list[NDArray[np.int64]]()
    view = View.of(1, codec, 0, np.arange(N), codec.encode(BASE))

    def originals(rows: NDArray[np.int64]) -> dict[int, bytes]:
        reads.append(rows)
        return {row: BASE[row].tobytes() for row in rows.tolist()}

    whole = Plan(K, 10, IndexKind.FAISS, Stage.RESCORE)
    asked = Questions(view, QUERIES, exact_neighbours(BASE, QUERIES, K, codec.metric).rows)
    gaps = asked.gaps(whole)
    assert len(gaps) == round(asked.recall(whole).sum() * K)  # one for each true neighbour that is found
    assert (gaps == 0).sum() == round(asked.recall(replace(whole, stage=Stage.REFINE)).sum() * K)
    farthest = replace(whole, margin=float(gaps.max()) * 1.001)
    assert np.array_equal(asked.recall(farthest), asked.recall(whole))  # nothing true is farther
    shortlist, taken = view.search(QUERIES, 10 * K, IndexKind.FAISS), 0
    for question, rows, scores in zip(QUERIES[:, None], *shortlist, strict=True):
        reads.clear()
        found = search(view, question, farthest, originals).rows
        assert set(reads[0].tolist()) == set(rows[scores >= scores[K - 1] - np.float32(farthest.margin)].tolist())
        taken += len(reads[0])
        reads.clear()
        every = search(view, question, whole, originals).rows
        assert len(reads[0]) == 10 * K
        assert len(np.intersect1d(found, every)) >= K - 1
    assert K * len(QUERIES) < taken < 0.7 * 10 * K * len(QUERIES)


def test_a_filter_that_leaves_fewer_than_k_reads_them_all(index: AdditiveIndex) -> None:
    view = View.of(1, index.codec, 0, np.arange(N), index.codec.encode(BASE)).only(np.arange(5))
    plan = Plan(K, 10, IndexKind.FAISS, Stage.RESCORE, margin=0.0)
    found = search(view, QUERIES, plan, lambda rows: {row: BASE[row].tobytes() for row in rows.tolist()})
    assert (np.sort(found.rows, axis=1)[:, -5:] == np.arange(5)).all()


def test_losses_are_those_of_a_search_within_the_margin(index: AdditiveIndex) -> None:
    codec = index.codec
    view = View.of(1, codec, 0, np.arange(N), codec.encode(BASE))
    truth = exact_neighbours(BASE, QUERIES, K, codec.metric).rows

    def originals(rows: NDArray[np.int64]) -> dict[int, bytes]:
        return {row: BASE[row].tobytes() for row in rows.tolist()}

    def found(plan: Plan) -> float:
        return round(float(recall(search(view, QUERIES, plan, originals).rows, truth).mean()), 4)

    asked = Asked(view, QUERIES, truth, truth_of(codec, 10 * K))
    losses = Losses(asked, asked, 10, 1, 0.0, Stage.RESCORE, 10)
    told = losses.knobs(IndexKind.FAISS, originals, np.inf, nullcontext())
    default = Plan(K, 10, IndexKind.FAISS, Stage.RESCORE, margin=0.0)
    assert [one["knob"] for one in told] == ["default", "margin", "index", "stage"]
    for most, tried in ((15, [15]), (20, [20]), (60, [20, 50, 60]), (900, [20, 50, 100])):
        turned = replace(losses, most_oversample=most)._turned(default, 0)
        assert [plan.oversample for knob, plan in turned if knob == "oversample"] == tried
    assert told[0]["recall@10"] == found(default) < found(replace(default, margin=None)) == told[1]["recall@10"]
    lost = losses.attributed(IndexKind.FAISS)["lost"]
    assert lost["shortlist"] == pytest.approx(told[1]["gives_back"], abs=0.02)  # all of it is the margin's
    told = replace(losses, margin=None).knobs(IndexKind.BUCKETS, originals, np.inf, nullcontext())
    probes = [(one["probes"], one["recall@10"]) for one in told if one["knob"] in ("default", "probes")]
    assert (probes[0][0], probes[2][0]) == (None, 2 * (probes[1][0] or 0))
    buckets = replace(default, kind=IndexKind.BUCKETS, margin=None)
    assert [share for _, share in probes] == [found(replace(buckets, probes=most)) for most, _ in probes]
    assert probes[0][1] <= probes[1][1] <= probes[2][1]
