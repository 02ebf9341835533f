"""The view that words are looked up in finds what a fresh one finds, after any sequence of changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from service.fusion import ReciprocalRank, Weights
from service.index.segment import IndexKind, RowArray
from service.index.text import Ranked, TextView
from service.item import NewItem
from service.query import Mode, Query
from service.search import Plan
from service.text_follower import TextFollower
from tests.test_collection import catalog_of

WORDS = ("ash", "birch", "cedar", "date", "elm")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
STEPS = st.lists(st.tuples(st.lists(TEXTS, max_size=4), st.integers(0, 3)), max_size=6)


def whole(rows: RowArray) -> Any:
    """Every row is live."""
    return np.ones(len(rows), np.bool_)


def found(view: TextView, words: str, k: int = 1_000) -> set[int]:
    """Rows, in no order: those that were removed count in the scores of others until their segment is merged."""
    return set(view.best(words, k, whole).rows.tolist())


@settings(max_examples=25)
@given(STEPS, st.integers(0, 1_000))
def test_any_sequence_of_changes_equals_a_fresh_view(steps: list[tuple[list[str], int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    view, kept, seq = TextView.of(0, []), dict[int, str](), 0
    for added, removals in steps:
        gone = rng.permutation(sorted(kept))[:removals].tolist()
        new = {seq + n: text for n, text in enumerate(added, 1)}
        seq += len(new) + len(gone)
        before, answers = view, [found(view, word) for word in WORDS]
        view = view.applied(seq, new, gone)
        kept = {row: text for row, text in (kept | new).items() if row not in gone}
        assert [found(before, word) for word in WORDS] == answers
        assert (view.applied_seq, len(view)) == (seq, len(kept))
    fresh = TextView.of(seq, kept.items())
    for word in WORDS:
        assert found(view, word) == found(fresh, word) == {row for row, text in kept.items() if word in text.split()}
    if not any(removals for _, removals in steps):
        for words in ("ash elm", "birch birch cedar"):
            mine, others = view.best(words, 50, whole), fresh.best(words, 50, whole)
            assert mine.rows.tolist() == others.rows.tolist()
            np.testing.assert_allclose(mine.scores, others.scores, rtol=1e-5)


def test_changes_that_failed_half_way_are_applied_again() -> None:
    view = TextView.of(1, [(1, "ash")])
    view.writer.add_document(tantivy.Document(row=2, text="birch"))
    again = view.applied(4, {2: "birch", 3: "cedar ash"}, [1])
    assert (found(again, "ash birch cedar"), len(again)) == ({2, 3}, 2)


def test_a_writer_that_failed_is_replaced(tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("c", dimension=2)

    def worded(words: str) -> list[str]:
        query = Query((), Plan(9, 1, IndexKind.FAISS, None), mode=Mode.TEXT, text=words)
        return sorted(hit.item.item_id for hit in collection.search([query])[0].hits)

    collection.ingest([NewItem("a", "ash", np.ones(2, np.float32), {})])
    assert worded("ash birch") == ["a"]
    follower = TextFollower(collection.id, "c", database)
    follower.view(1).writer.wait_merging_threads()  # it writes no more
    collection.ingest([NewItem("b", "birch", np.ones(2, np.float32), {})])
    assert worded("ash birch") == ["a", "b"]
    with pytest.raises(RuntimeError, match="IndexWriter"):
        follower.follow()
    assert found(follower.view(2), "ash birch") == {1, 2}
    database.close()


def test_scores_are_those_of_the_formula() -> None:
    texts = {1: "ash ash elm", 2: "elm", 3: "cedar"}
    ranked = TextView.of(3, texts.items()).best("ash elm ash", 3, whole)
    mean = np.mean([len(text.split()) for text in texts.values()])

    def bm25(word: str, text: str) -> float:
        f, n = text.split().count(word), sum(word in other for other in texts.values())
        return float(
            np.log(1 + (3 - n + 0.5) / (n + 0.5)) * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len(text.split()) / mean))
        )

    expected = {row: bm25("ash", text) + bm25("elm", text) for row, text in texts.items()}
    assert ranked.rows.tolist() == [1, 2]
    assert ranked.scores.tolist() == pytest.approx([expected[1], expected[2]], rel=1e-5)


def test_fused_lists_of_nothing() -> None:
    none = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))
    one = Ranked(np.array([7], np.int64), np.array([-3.5], np.float32))
    for fusion in (ReciprocalRank(), Weights()):
        assert fusion.fused(none, none).rows.tolist() == []
        assert fusion.fused(none, one).rows.tolist() == [7]
    assert Weights(0.25).fused(none, one).scores.tolist() == [0.75]
    assert ReciprocalRank(1).fused(one, one, told=3).scores.tolist() == pytest.approx([2 / 5])
