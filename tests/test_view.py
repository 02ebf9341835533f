"""A view after any sequence of changes equals one built at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Codec, FlatCodec, Metric, Vectors, exact_neighbours
from service.index import segment as segment_module
from service.index import view as view_module
from service.index.look import Look, Over
from service.index.segment import IndexKind, Segment
from service.index.view import View
from tests.conftest import clustered

DIM = 8
QUERIES = clustered(5, DIM, 77)
NO_ROWS = np.empty(0, np.int64)


def empty() -> View:
    return View.of(None, FlatCodec(DIM, Metric.L2), 0, NO_ROWS, np.empty((0, 4 * DIM), np.uint8))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=12), st.integers(0, 1000))
def test_any_sequence_of_changes_equals_exact_search(steps: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = clustered(400, DIM, seed)
    with pytest.MonkeyPatch.context() as patch:  # small limits, so that folding happens within a few steps
        patch.setattr(view_module, "SMALLEST_TAIL", 8)
        view, alive, next_row = empty(), set[int](), 1
        for seq, (add, remove) in enumerate(steps, 1):
            added = np.arange(next_row, next_row + add)
            next_row += add
            removed = rng.permutation(sorted(alive | set(added.tolist())))[:remove].astype(np.int64)
            view = view.applied(seq, added, view.codec.encode(vectors[added]), removed)
            alive = (alive | set(added.tolist())) - set(removed.tolist())
            assert view.applied_seq == seq
            assert len(view) == len(alive)
    rows = np.array(sorted(alive), np.int64)
    k = min(3, len(rows))
    if k:
        truth = rows[exact_neighbours(vectors[rows], QUERIES, k, Metric.L2).rows]
        assert np.array_equal(view.search(QUERIES, k, IndexKind.FAISS).rows, truth)
        assert np.array_equal(view.codes_of(truth), view.codec.encode(vectors[truth.ravel()]).reshape(5, k, -1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
def test_a_view_of_chosen_rows_has_those_that_were_live(n: int, gap: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.integers(1, gap + 1, n)) + 5  # close together they are looked up in a table, a few at a time
    codec = FlatCodec(DIM, Metric.L2)
    whole = View.of(None, codec, 9, rows, codec.encode(clustered(60, DIM)[:n]))
    view = whole.applied(10, NO_ROWS, np.empty((0, 4 * DIM), np.uint8), rng.permutation(rows)[: n // 3])
    wanted = rng.permutation(np.arange(rows.max(initial=0) + 10))[: 2 * n]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_module, "BLOCK", block)
        chosen = view.only(wanted)
    assert chosen.live_rows().tolist() == sorted(set(view.live_rows().tolist()) & set(wanted.tolist()))
    assert len(chosen) == len(chosen.live_rows())


def test_an_older_view_answers_as_before(tiny_codec: Codec) -> None:
    vectors = clustered(100, DIM)
    codes = tiny_codec.encode(vectors)
    before = View.of(1, tiny_codec, 10, np.arange(1, 51), codes[:50])
    answer = before.search(QUERIES, 5, IndexKind.FAISS)
    after = before.applied(11, np.arange(51, 101), codes[50:], answer.rows[:, 0].copy())
    assert np.array_equal(before.search(QUERIES, 5, IndexKind.FAISS).rows, answer.rows)
    found = after.search(QUERIES, 100, IndexKind.BUCKETS).rows
    assert not set(answer.rows[:, 0].tolist()) & set(found.ravel().tolist())


def test_the_tail_is_folded_and_the_dead_are_dropped(tiny_codec: Codec) -> None:
    codes = tiny_codec.encode(clustered(20_000, DIM))
    view = View.of(1, tiny_codec, 1, np.arange(10_000), codes[:10_000])
    view = view.applied(2, np.arange(10_000, 14_000), codes[10_000:14_000], NO_ROWS)
    assert (len(view.base), len(view.tail)) == (10_000, 4_000)
    view = view.applied(3, np.arange(14_000, 14_200), codes[14_000:14_200], NO_ROWS)
    assert (len(view.base), len(view.tail)) == (14_200, 0)
    view = view.applied(4, NO_ROWS, codes[:0], np.arange(8_000))
    assert (len(view.base), len(view)) == (6_200, 6_200)
    assert view.base.rows[0] == 8_000


def test_ram_is_counted(tiny_codec: Codec) -> None:
    view = View.of(1, tiny_codec, 1, np.arange(1000), tiny_codec.encode(clustered(1000, DIM)))
    assert view.ram_bytes == 1000 * (tiny_codec.code_bytes + 8) + 125
    view.search(QUERIES, 3, IndexKind.BUCKETS)
    assert view.ram_bytes == 1000 * (tiny_codec.code_bytes + 8) + 125 + 4 * (4 * 1000) + 4 * (4 * 512 + 1)


def test_buckets_score_a_tenth_of_base_and_tail_together(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = tiny_codec.encode(clustered(14_000, DIM))
    view = View.of(1, tiny_codec, 1, np.arange(10_000), codes[:10_000])
    view = view.applied(2, np.arange(10_000, 14_000), codes[10_000:], NO_ROWS)
    budgets: list[int] = []
    probed = Segment.probed

    def counted(self: Segment, queries: Vectors, k: int, candidates: int, probes: int | None, over: Over) -> Look:
        budgets.append(candidates)
        return probed(self, queries, k, candidates, probes, over)

    monkeypatch.setattr(Segment, "probed", counted)
    view.search(QUERIES, 10, IndexKind.BUCKETS)
    assert budgets == [1_000, 400]


def test_probes_are_shared_out_among_base_and_tail(tiny_codec: Codec) -> None:
    codes = tiny_codec.encode(clustered(14_000, DIM))
    view = View.of(1, tiny_codec, 1, np.arange(10_000), codes[:10_000])
    only_base = view.probed(QUERIES, 10, 300)
    view = view.applied(2, np.arange(10_000, 14_000), codes[10_000:], NO_ROWS)
    look = view.probed(QUERIES, 10, 300)  # 4 x 8,192 and 4 x 2,048 buckets
    base, tail = (segment.probed(QUERIES, 10, 0, share) for segment, share in ((view.base, 240), (view.tail, 60)))
    assert only_base.probes.tolist() == look.probes.tolist() == [300] * 5
    assert look.candidates.tolist() == (base.candidates + tail.candidates).tolist()
    assert look.radius.tolist() == np.minimum(base.radius, tail.radius).tolist()
    assert {row >= 10_000 for row in look.neighbours.rows.ravel().tolist()} == {False, True}
    gone = view.applied(3, NO_ROWS, codes[:0], np.arange(14_000))
    assert (gone.probed(QUERIES, 10, 300).neighbours.rows == -1).all()


def test_tables_are_built_once_for_a_segment_and_its_heirs(tiny_codec: Codec) -> None:
    view = View.of(1, tiny_codec, 1, np.arange(1000), tiny_codec.encode(clustered(1000, DIM)))
    lesser = view.applied(2, NO_ROWS, tiny_codec.encode(clustered(0, DIM)), np.array([5]))
    before = lesser.ram_bytes
    lesser.search(QUERIES, 3, IndexKind.BUCKETS)
    assert view.ram_bytes == lesser.ram_bytes > before
