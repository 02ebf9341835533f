"""Which rows of one collection answer queries, best first. Writes nothing; knows no HTTP."""

from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from models import Neighbours, Vectors
from service.aligned import Aligned
from service.asked import Asked, tell
from service.deadline import Deadline
from service.errors import OutOfTime
from service.filter import Filter
from service.index.chunks import ChunkView
from service.index.exact import exact_search
from service.index.segment import IndexKind, RowArray
from service.index.text import Ranked
from service.index.view import View
from service.originals import Originals
from service.profile import Profile
from service.query import Mode, by_codes
from service.reader import Reader
from service.search import Plan, Probed, joined, reordered, search

DEEPER = 4
"""How many times as many chunks are looked for where those that were found are of too few items."""
BLOCK = 8_192
"""Chunks whose codes are scored at once."""
Block = tuple[RowArray, Vectors]
"""(n,) rows and their (n, D) vectors."""


class Ranker(Reader):
    """Thread-safe. Looks into immutable views that follow the log."""

    def _pool(self, one: Asked, view: View) -> Plan:
        """How the hits of a query are found among which it is answered."""
        plan = one.query.pool
        if self.chunking is not None:  # the whole shortlist is ranked, for its best may be chunks of one item
            plan = replace(plan, k=plan.k * plan.oversample, oversample=1)
        if self.originals is Originals.DROP and view.generation_id is not None:
            plan = by_codes(plan, one.query.field)
        # A query by example does not answer with the example itself: one more is looked for, and it is left out.
        return replace(plan, k=plan.k + len(one.own_rows))

    def _find(
        self,
        members: Sequence[Asked],
        chosen: View,
        aligned: Aligned,
        plan: Plan,
        profile: Profile,
        deadline: Deadline,
        *,
        whole: bool,
    ) -> None:
        """What each query, all of one mode, is answered from: the rows that the plan finds, best first."""
        items = counted(chosen, aligned.chunks, whole=whole)
        found = self._ranked(members, chosen, aligned, items, plan, profile, deadline, whole=whole)
        tell(members, deadline)
        for one, ranked in zip(members, found, strict=True):
            query = one.query
            left_out = one.own_rows | query.seen
            one.rows, one.scores = ranked.without(left_out)
            there = items - sum(row in chosen for row in left_out)
            if query.mode is Mode.TEXT:
                there = len(one.rows)  # all that have its words, or one more than are wanted
            one.expected, one.more = min(query.plan.k, there), there > query.plan.k
            if query.min_score is not None and (fits := int((one.scores >= query.min_score).sum())) < len(one.rows):
                one.rows, one.scores = one.rows[:fits], one.scores[:fits]
                one.expected, one.more = min(query.plan.k, fits), fits > query.plan.k
            if query.group_by is None and not query.diversity:
                one.rows, one.scores = one.rows[: query.plan.k], one.scores[: query.plan.k]

    def _ranked(
        self,
        members: Sequence[Asked],
        chosen: View,
        aligned: Aligned,
        items: int,
        plan: Plan,
        profile: Profile,
        deadline: Deadline,
        *,
        whole: bool,
    ) -> list[Ranked]:
        """For each query rows of items, best first; `items`: how many are chosen."""
        mode, also, worded = members[0].query.mode, None, list[Ranked]()
        if mode is not Mode.VECTOR:
            texts = [one.query.text or "" for one in members]
            worded = self._worded(texts, chosen, aligned, plan.k + 1, profile, deadline)
        if mode is Mode.TEXT:
            return worded
        chunks = aligned.chunks
        if mode is Mode.HYBRID:  # what words found has its vector's place too, however coarse the codes are
            also = np.full((len(members), max(len(words.rows) for words in worded)), -1, np.int64)
            for place, (one, words) in enumerate(zip(members, worded, strict=True)):
                also[place, : len(words.rows)] = (
                    words.rows if chunks is None else _nearest_chunks(one.point, words.rows, chosen, chunks)
                )
        try:
            best = self._neighbours(members, chosen, plan, profile, deadline, also, whole=whole)
        except OutOfTime:
            if mode is Mode.VECTOR:
                raise
            deadline.cut(range(len(members)), "only words were looked for")
            best = Neighbours(np.empty((len(members), 0), np.int64), np.empty((len(members), 0), np.float32))
        near = _lists(best)
        if chunks is not None:
            tell(members, deadline)
            for place, one in enumerate(members):
                beside = None if also is None else also[[place]]
                near[place] = self._rolled(one, near[place], chosen, items, chunks, plan, profile, deadline, beside)
        if mode is Mode.VECTOR:
            return near
        fused = []
        with profile.stage("fusion"):
            for one, words, vectors in zip(members, worded, near, strict=True):
                lists = words.without(one.own_rows), vectors.without(one.own_rows)
                fused.append(one.query.fusion.fused(*lists, told=one.told))
                one.told += plan.k
        return fused

    def _rolled(
        self,
        one: Asked,
        found: Ranked,
        chosen: View,
        items: int,
        chunks: ChunkView,
        plan: Plan,
        profile: Profile,
        deadline: Deadline,
        also: RowArray | None,
    ) -> Ranked:
        """The items of the chunks that were found, each by its best one. Looks deeper, for this query alone, until
        there are as many items as are wanted.
        """
        wanted = min(items, one.query.plan.k + len(one.own_rows | one.query.seen))
        rolled = chunks.rolled(found)
        while len(rolled.items.rows) < wanted and plan.k < len(chosen):
            try:
                if deadline.over:
                    raise deadline.missed()
                plan = replace(plan, k=plan.k * DEEPER)
                best = self._neighbours([one], chosen, plan, profile, deadline, also, whole=False)
            except OutOfTime:
                deadline.cut([0], f"{len(rolled.items.rows)} items were found until then")
            else:
                rolled = chunks.rolled(_lists(best)[0])
            tell([one], deadline)
            if one.cut is not None:
                break
        one.chunks |= dict(zip(rolled.items.rows.tolist(), rolled.chunks.tolist(), strict=True))
        return rolled.items

    def _worded(
        self, texts: Sequence[str], chosen: View, aligned: Aligned, k: int, profile: Profile, deadline: Deadline
    ) -> list[Ranked]:
        """For each text the k best of the chosen rows that have its words."""
        with ExitStack() as turn:
            with profile.stage("waiting"):
                turn.enter_context(deadline.turn(self._computing))
            with profile.stage("text"):
                found = [aligned.best(text, k, chosen.holds) for text in texts]
        profile.count("worded", sum(len(ranked.rows) for ranked in found))
        return found

    def _aligned(self, view: View, *, filters: bool = False, words: bool = False) -> tuple[View, Aligned]:
        """The view, or a later one, and what is wanted beside it."""
        return Aligned.of(
            view,
            self.follower,
            self._filters if filters else None,
            self._words if words else None,
            None if self.chunking is None else self._chunks,
        )

    def _only(
        self, view: View, aligned: Aligned, wanted: Filter, profile: Profile, without: Set[int] = frozenset()
    ) -> View:
        """The view with every other row dead."""
        with profile.stage("filter"):
            rows = aligned.rows(wanted)
            rows = np.setdiff1d(rows, list(without)) if without else rows
            chosen = view.only(rows if aligned.chunks is None else aligned.chunks.rows_of(rows))
        profile.count("chosen", counted(chosen, aligned.chunks, whole=False))
        return chosen

    def _neighbours(
        self,
        members: Sequence[Asked],
        view: View,
        plan: Plan,
        profile: Profile,
        deadline: Deadline,
        also: RowArray | None,
        *,
        whole: bool,
    ) -> Neighbours:
        """`also`: (q, a) more rows to rank; `whole`: nothing of the collection is left out of the view."""
        points, probed = np.stack([one.point for one in members]), list[Probed]()
        with ExitStack() as turn:
            with profile.stage("waiting"):
                turn.enter_context(deadline.turn(self._computing))
            if plan.kind is IndexKind.EXACT and view.generation_id is not None:
                profile.count("bytes", len(view) * self.originals.bytes_of(self.dim))
                with profile.stage("exact"):
                    blocks = self._blocks() if whole else self._blocks_of(view.live_rows())
                    best = exact_search(_in_time(blocks, view, points, deadline), points, plan.k, self.metric)
                    if also is None:
                        return best
                    rows = joined(best.rows, also)
                    return reordered(view, points, rows, rows.shape[1], self._originals, profile, deadline)
            best = search(view, points, plan, self._originals, profile, also, deadline, probed)
        for one, told in zip(members, probed, strict=False):  # none but by the buckets
            one.probed = told
        return best


def counted(view: View, chunks: ChunkView | None, *, whole: bool) -> int:
    """The items that are live in the view; `whole`: nothing of the collection is left out of it."""
    return len(view) if chunks is None else chunks.count(view, whole=whole)


def _lists(found: Neighbours) -> list[Ranked]:
    """The rows of each query, without the places where there are none."""
    return [Ranked(rows, scores).without({-1}) for rows, scores in zip(found.rows, found.scores, strict=True)]


def _nearest_chunks(point: Vectors, items: RowArray, view: View, chunks: ChunkView) -> RowArray:
    """(i,) of each item the row that is nearest to a (D,) query by its code, in no order."""
    rows = chunks.rows_of(items)
    blocks = [rows[None, start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    scores = [view.codec.scores(point[None], view.codes_of(block))[0] for block in blocks]
    if not blocks:
        return rows
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    return chunks.rolled(Ranked(rows[order], every[order])).chunks


def _in_time(blocks: Iterator[Block], view: View, points: Vectors, deadline: Deadline) -> Iterator[Block]:
    """Blocks until the deadline, the first one in any case."""
    seen = 0
    for rows, vectors in blocks:
        yield rows, vectors
        seen += len(rows)
        if deadline.over and seen < len(view):
            deadline.cut(range(len(points)), f"{seen} of {len(view)} vectors were looked at until then")
            return
