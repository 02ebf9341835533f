"""What one collection answers in one process: the nearest items. Writes nothing; knows no HTTP."""

from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from models import Metric, Neighbours, Scores, Vectors
from service.choice import diverse, value_at
from service.deadline import Deadline
from service.errors import ItemNotFound, NotSparse, OutOfTime, Unavailable
from service.filter import Every, Filter, Not, Some, Value, equal
from service.index.chunks import ChunkView
from service.index.exact import exact_search
from service.index.segment import IndexKind, RowArray
from service.index.text import Ranked
from service.index.view import View
from service.item import checked_vector
from service.latents import Explanation, Latent, Latents
from service.originals import Originals
from service.profile import Operation, Profile
from service.query import Answer, Example, Hit, Mode, Query, by_codes, combined, why_fewer
from service.reader import Reader
from service.search import Plan, Probed, joined, reordered, search
from service.span import Span
from service.store import payload, store

if TYPE_CHECKING:
    from models import SparseCodec

DEEPER = 4
"""How many times as many chunks are looked for where those that were found are of too few items."""
BLOCK = 8_192
"""Chunks whose codes are scored at once."""
LOOKS = 3
"""Times that a search is made, each over a newer view, where a hit is deleted or replaced while it runs."""
Block = tuple[RowArray, Vectors]
"""(n,) rows and their (n, D) vectors."""


@dataclass
class Asked:
    """A query on its way: its point, and what was found for it."""

    query: Query
    point: Vectors
    """(D,); zeros in the mode text"""
    own_rows: frozenset[int]
    """Of its examples, which are no answer to it."""
    warning: str | None
    rows: RowArray = field(default_factory=lambda: np.empty(0, np.int64))
    scores: Scores = field(default_factory=lambda: np.empty(0, np.float32))
    expected: int = 0
    """Hits that there should be."""
    more: bool = False
    """Whether there is more than was asked for."""
    told: int = 0
    """Places of both lists that were fused so far."""
    cut: str | None = None
    """What it has to do without, for its time was over."""
    groups: dict[int, Value | None] = field(default_factory=dict)
    """The value that each row's group has."""
    probed: Probed | None = None
    """How far the last look into the buckets went."""
    chunks: dict[int, int] = field(default_factory=dict)
    """The row of the chunk that each item was found by, where texts are cut; `rows` are the items' own."""

    @property
    def is_a_users(self) -> bool:
        """Whether its point is what a user looks for: no item's, no mixture, and no page after the first."""
        query = self.query
        plain = len(query.positive) == 1 and not query.negative and not query.boost and not query.suppress
        return plain and query.mode is not Mode.TEXT and not self.own_rows and not query.seen

    @property
    def found_by(self) -> RowArray:
        """Of each item the row that it was found by."""
        return np.array([self.chunks.get(row, row) for row in self.rows.tolist()], np.int64)


class Searcher(Reader):
    """Thread-safe. What it answers comes from immutable views that follow the log."""

    _labelled: tuple[int | None, Latents | None] = (None, None)
    """The generation whose latents have labels, and they."""

    def search(
        self,
        queries: Sequence[Query],
        *,
        vectors: bool = False,
        min_seq: int = 0,
        wait_seconds: float = 0,
        deadline: Deadline | None = None,
    ) -> list[Answer]:
        """Answers queries over one and the same view, of `min_seq` or later; those with equal plans in one pass. When
        the deadline comes, with what there is. Where hits go while it looks, it looks again.

        Raises:
            ItemNotFound, InvalidInput; Unavailable: the log did not come to `min_seq` within `wait_seconds`; OutOfTime:
                there is nothing.
        """
        profile, deadline = Profile(Operation.SEARCH, self.name), deadline or Deadline()
        left = deadline.left
        view = self.follower.view(min_seq, wait_seconds if left is None else min(wait_seconds, left))
        profile.count("queries", len(queries))
        profile.count("items", self._count(view, whole=True))
        for look in range(LOOKS):
            answers, gone = self._looked(queries, view, vectors, profile, deadline, first=not look)
            if not gone or deadline.over:
                break
            view = self.follower.catch_up()
        self._observe(profile)
        return answers

    def _looked(
        self, queries: Sequence[Query], view: View, vectors: bool, profile: Profile, deadline: Deadline, *, first: bool
    ) -> tuple[list[Answer], bool]:
        """Answers over the view, and whether a hit was deleted or replaced between the view and the database."""
        with profile.stage("query"):
            asked = self._asked([self._tuned(query, view) for query in queries], view, profile)
        if first:
            for one in asked:
                if one.is_a_users:
                    self._recent.add(one.point)
        passes: dict[tuple[Mode, Plan, Filter | None], list[Asked]] = {}
        for one in asked:
            passes.setdefault((one.query.mode, self._pool(one, view), one.query.filter), []).append(one)
        for number, ((_, plan, wanted), members) in enumerate(passes.items()):
            try:
                if number and deadline.over:
                    raise deadline.missed()
                chosen = view if wanted is None else self._only(view, wanted, profile)
                self._find(members, chosen, plan, profile, deadline, whole=wanted is None)
            except OutOfTime as error:
                if not number:
                    raise
                for one in members:
                    one.cut = error.left_out
        for one in asked:
            if one.query.group_by is not None:
                self._group(one, view, one.query.group_by, profile, deadline)
            elif one.query.diversity:
                with profile.stage("diversity"):
                    self._diversify(one, view)
        return self._answers(asked, view, vectors, profile)

    def _tuned(self, query: Query, view: View) -> Query:
        if view.generation_id is None:
            return query
        tuning, plan = self.follower.tuning(view.generation_id), query.plan
        oversample, margin = (tuning.oversample, tuning.margin) if query.tuned else (plan.oversample, None)
        plan = replace(plan, oversample=oversample, scan=plan.scan or tuning.scan, margin=margin)
        return replace(query, plan=plan)

    def _asked(self, queries: Sequence[Query], view: View, profile: Profile) -> list[Asked]:
        examples = [example for query in queries for example in (*query.positive, *query.negative)]
        points, own_rows, warnings = self._points(examples, view, profile)
        asked, start = [], 0
        for query in queries:
            middle = start + len(query.positive)
            end = middle + len(query.negative)
            own = frozenset(row for row in own_rows[start:end] if row is not None)
            warning = next((warning for warning in warnings[start:end] if warning is not None), None)
            point = np.zeros(self.dim, np.float32)
            if query.mode is not Mode.TEXT:
                point = combined(points[start:middle], points[middle:end], self.metric, query.field)
            if query.boost or query.suppress:
                asked_for = "boost" if query.boost else "suppress"
                latents = self._latents(view, f"{query.field}{asked_for}")
                point = latents.steered(point, query.boost, query.suppress, query.field)
            asked.append(Asked(query, point, own, warning))
            start = end
        return asked

    def _points(
        self, examples: Sequence[Example], view: View, profile: Profile
    ) -> tuple[Vectors, list[int | None], list[str | None]]:
        """(e, D) vectors of the examples, the row of each that is an item, and what the encoder says of each text."""
        points = np.zeros((len(examples), self.dim), np.float32)
        own_rows: list[int | None] = [None] * len(examples)
        warnings: list[str | None] = [None] * len(examples)
        texts = {place: example.text for place, example in enumerate(examples) if example.text is not None}
        ids = {place: example.id for place, example in enumerate(examples) if example.id is not None}
        for place, example in enumerate(examples):
            if example.vector is not None:
                points[place] = checked_vector(example.vector, self.dim, self.metric, f"{example.field}vector")
        for place, hit in zip(ids, self.get(list(ids.values()), vectors=True) if ids else [], strict=True):
            if hit is None:
                raise ItemNotFound(ids[place], field=f"{examples[place].field}id")
            points[place] = hit.vector if hit.vector is not None else self._decoded(hit.item, view)
            own_rows[place] = hit.item.row_id
        if texts:
            encoder = self._text_encoder(f"{examples[next(iter(texts))].field}text")
            with profile.stage("encode"):
                encoded = encoder.encode(list(texts.values()))
            points[list(texts)] = encoded.vectors
            for place, warning in zip(texts, encoded.warnings, strict=True):
                warnings[place] = warning
        return points, own_rows, warnings

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
        self, members: Sequence[Asked], chosen: View, plan: Plan, profile: Profile, deadline: Deadline, *, whole: bool
    ) -> None:
        """What each query, all of one mode, is answered from: the rows that the plan finds, best first."""
        items = self._count(chosen, whole=whole)
        found = self._ranked(members, chosen, items, plan, profile, deadline, whole=whole)
        _tell(members, deadline)
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
            worded = self._worded([one.query.text or "" for one in members], chosen, plan.k + 1, profile, deadline)
        if mode is Mode.TEXT:
            return worded
        chunks = self._chunk_view(chosen.applied_seq)
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
            _tell(members, deadline)
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
            _tell([one], deadline)
            if one.cut is not None:
                break
        one.chunks |= dict(zip(rolled.items.rows.tolist(), rolled.chunks.tolist(), strict=True))
        return rolled.items

    def _count(self, view: View, *, whole: bool) -> int:
        """The items that are live in the view; `whole`: nothing of the collection is left out of it."""
        chunks = self._chunk_view(view.applied_seq)
        return len(view) if chunks is None else chunks.count(view, whole=whole)

    def _worded(self, texts: Sequence[str], chosen: View, k: int, profile: Profile, deadline: Deadline) -> list[Ranked]:
        """For each text the k best of the chosen rows that have its words."""
        view = self._words.view(chosen.applied_seq)
        with ExitStack() as turn:
            with profile.stage("waiting"):
                turn.enter_context(deadline.turn(self._computing))
            with profile.stage("text"):
                found = [view.best(text, k, chosen.holds) for text in texts]
        profile.count("worded", sum(len(ranked.rows) for ranked in found))
        return found

    def _only(self, view: View, wanted: Filter, profile: Profile, without: Set[int] = frozenset()) -> View:
        """The view with every other row dead."""
        with profile.stage("filter"):
            rows = self._filters.view(view.applied_seq).rows(wanted)
            rows = np.setdiff1d(rows, list(without)) if without else rows
            chunks = self._chunk_view(view.applied_seq)
            chosen = view.only(rows if chunks is None else chunks.rows_of(rows))
        profile.count("chosen", self._count(chosen, whole=False))
        return chosen

    def _diversify(self, one: Asked, view: View) -> None:
        """Compared are decoded vectors: no more originals are read for it."""
        vectors = view.codec.decode(view.codes_of(one.found_by))
        # Only cosines are relevance as they are; other scores count by their place, as those of the metric ip do.
        metric = self.metric if one.query.mode is Mode.VECTOR else Metric.IP
        places = diverse(one.scores, vectors, one.query.plan.k, one.query.diversity, metric)
        one.rows, one.scores = one.rows[places], one.scores[places]

    def _group(self, one: Asked, view: View, path: str, profile: Profile, deadline: Deadline) -> None:
        """Looks again, without the groups that were found, until there are as many as were asked for."""
        query, plan = one.query, self._pool(one, view)
        groups: dict[tuple[object, ...], list[tuple[int, float]]] = {}
        alone: set[int] = set()
        while len(one.rows):
            found = len(groups)
            metadata = self._metadata(one.rows)
            for row, score in zip(one.rows.tolist(), one.scores.tolist(), strict=True):
                value = value_at(metadata.get(row, {}), path)
                key = (row,) if value is None else (isinstance(value, bool), value)
                if key in groups or len(groups) < query.plan.k:
                    members = groups.setdefault(key, [])
                    if len(members) < query.group_size:
                        members.append((row, score))
                        one.groups[row] = value
                if value is None:
                    alone.add(row)
            if len(groups) == query.plan.k or len(groups) == found:
                break
            if deadline.over:
                deadline.cut([0], f"{len(groups)} groups were found until then")
                _tell([one], deadline)
                break
            known = [equal(path, value) for value in one.groups.values() if value is not None]
            others = Every((query.filter or Every(), Not(Some(tuple(known)))))
            chosen = self._only(view, others, profile, without=alone)
            self._find([one], chosen, plan, profile, deadline, whole=False)
        members = [pair for group in groups.values() for pair in group]
        one.rows = np.array([row for row, _ in members], np.int64)
        one.scores = np.array([score for _, score in members], np.float32)
        one.expected, one.more = len(members), False

    def _answers(
        self, asked: Sequence[Asked], view: View, vectors: bool, profile: Profile
    ) -> tuple[list[Answer], bool]:
        """The hits with what the database has of them, and whether one of them is gone."""
        with profile.stage("documents"), self._database.looking() as connection:
            # Vectors first: an item that is there afterwards was there with its vector.
            rows = sorted({row for one in asked for row in one.found_by.tolist()}) if vectors else []
            stored = payload.vectors_by_row(connection, self.id, rows) if rows else {}
            every_row = sorted({row for one in asked for row in one.rows.tolist()})
            items = store.items_by_row(connection, self.id, every_row)
        answers = []
        for one in asked:
            why = self._explained(one, view, profile) if one.query.explain else {}
            hits = [
                Hit(
                    items[row],
                    score,
                    self._vector(stored.get(by)),
                    one.groups.get(row),
                    why.get(row),
                    chunk=self._chunk(items[row], one, view),
                )
                for row, by, score in zip(one.rows.tolist(), one.found_by.tolist(), one.scores.tolist(), strict=True)
                if row in items
            ]
            if one.query.snippet:
                with profile.stage("snippets"):
                    snippets = self._words.view(view.applied_seq).snippets(
                        one.query.text or "", [hit.passage for hit in hits]
                    )
                    hits = [replace(hit, snippet=snippet) for hit, snippet in zip(hits, snippets, strict=True)]
            reason = one.cut or why_fewer(one.query.plan, one.expected - len(hits))
            paged = one.more and reason is None and not one.query.diversity
            seen = one.query.seen | frozenset(one.rows.tolist()) if paged else frozenset()
            answers.append(Answer(hits, view.generation_id, reason, seen, one.warning, profile, one.probed))
        return answers, len(items) < len(every_row)

    def _chunk(self, item: store.Item, one: Asked, view: View) -> Span | None:
        """The one that the item was found by; where words found it, that with most of them."""
        spans = item.spans
        if not spans:
            return None
        place = one.chunks.get(item.row_id, item.row_id) - item.row_id
        if item.row_id not in one.chunks and len(spans) > 1:
            parts = [(item.text or "")[slice(*span)] for span in spans]
            place = self._words.view(view.applied_seq).most_worded(one.query.text or "", parts)
        return spans[place]

    def _explained(self, one: Asked, view: View, profile: Profile) -> dict[int, Explanation]:
        latents = self._latents(view, f"{one.query.field}explain")
        with profile.stage("explanation"):
            explanations = latents.explained(one.point, view.codes_of(one.found_by), view, self._texts)
        return dict(zip(one.rows.tolist(), explanations, strict=True))

    def commonest_latents(self, wanted: Filter, limit: int) -> list[Latent]:
        """The latents of a sparse codec that are active in most of the chosen items.

        Raises:
            NotSparse
        """
        view = self.follower.view()
        chosen = view if wanted == Every() else self._only(view, wanted, Profile())
        chunks = self._chunk_view(view.applied_seq)
        return self._latents(view, None).commonest(chosen, limit, self._texts, chunks)

    def _latents(self, view: View, field: str | None) -> Latents:
        """Those of the view's codec; their labels are kept while it is the one that is searched."""
        if view.codec.kind != "sparse":
            raise NotSparse(self.name, field=field)
        generation, latents = self._labelled
        if latents is None or generation != view.generation_id:
            latents = Latents(cast("SparseCodec", view.codec))
            self._labelled = view.generation_id, latents
        return latents

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

    def _decoded(self, item: store.Item, view: View) -> NDArray[np.float32]:
        """What is left of a vector that was dropped."""
        with self._database.reading() as session:
            codes = payload.codes_by_row(session, view.generation_id or 0, item.rows)
        if len(codes) < len(item.rows):
            raise Unavailable(f"the item {item.item_id!r} was changed meanwhile; try again")
        stored = np.array([list(code) for code in codes.values()], np.uint8)
        vector: NDArray[np.float32] = view.codec.decode(stored).mean(axis=0)
        return vector


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


def _tell(members: Sequence[Asked], deadline: Deadline) -> None:
    """Gives each query of a pass what was noted of it."""
    for place, why in deadline.told().items():
        members[place].cut = members[place].cut or why


def _in_time(blocks: Iterator[Block], view: View, points: Vectors, deadline: Deadline) -> Iterator[Block]:
    """Blocks until the deadline, the first one in any case."""
    seen = 0
    for rows, vectors in blocks:
        yield rows, vectors
        seen += len(rows)
        if deadline.over and seen < len(view):
            deadline.cut(range(len(points)), f"{seen} of {len(view)} vectors were looked at until then")
            return
