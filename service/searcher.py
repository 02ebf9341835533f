"""What one collection answers in one process: the nearest items. Writes nothing; knows no HTTP."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from models import Metric, Vectors
from service.aligned import Aligned
from service.asked import Asked, tell
from service.choice import diverse, value_at
from service.deadline import Deadline
from service.errors import ItemNotFound, NotSparse, OutOfTime, Unavailable
from service.filter import Every, Filter, Not, Some, equal
from service.index.view import View
from service.item import checked_vector
from service.latents import Explanation, Latent, Latents
from service.profile import Operation, Profile
from service.query import Answer, Example, Hit, Mode, Query, combined, why_fewer
from service.ranker import Ranker, counted
from service.search import Plan
from service.span import Span
from service.store import payload, store

if TYPE_CHECKING:
    from models import SparseCodec

LOOKS = 3
"""Times that a search is made, each over a newer view, where a hit is deleted or replaced while it runs."""


class Searcher(Ranker):
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
            view, aligned = self._aligned(
                view,
                filters=any(query.filter is not None or query.group_by is not None for query in queries),
                words=any(query.mode is not Mode.VECTOR for query in queries),
            )
            profile.looked_at(view.codec.kind, counted(view, aligned.chunks, whole=True))
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
                chosen = view if wanted is None else self._only(view, aligned, wanted, profile)
                self._find(members, chosen, aligned, plan, profile, deadline, whole=wanted is None)
            except OutOfTime as error:
                if not number:
                    raise
                for one in members:
                    one.cut = error.left_out
        for one in asked:
            if one.query.group_by is not None:
                self._group(one, view, aligned, one.query.group_by, profile, deadline)
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

    def _diversify(self, one: Asked, view: View) -> None:
        """Compared are decoded vectors: no more originals are read for it."""
        vectors = view.codec.decode(view.codes_of(one.found_by))
        # Only cosines are relevance as they are; other scores count by their place, as those of the metric ip do.
        metric = self.metric if one.query.mode is Mode.VECTOR else Metric.IP
        places = diverse(one.scores, vectors, one.query.plan.k, one.query.diversity, metric)
        one.rows, one.scores = one.rows[places], one.scores[places]

    def _group(self, one: Asked, view: View, aligned: Aligned, path: str, profile: Profile, deadline: Deadline) -> None:
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
                tell([one], deadline)
                break
            known = [equal(path, value) for value in one.groups.values() if value is not None]
            others = Every((query.filter or Every(), Not(Some(tuple(known)))))
            chosen = self._only(view, aligned, others, profile, without=alone)
            self._find([one], chosen, aligned, plan, profile, deadline, whole=False)
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
        view, aligned = self._aligned(self.follower.view(), filters=wanted != Every())
        chosen = view if wanted == Every() else self._only(view, aligned, wanted, Profile())
        return self._latents(view, None).commonest(chosen, limit, self._texts, aligned.chunks)

    def _latents(self, view: View, field: str | None) -> Latents:
        """Those of the view's codec; their labels are kept while it is the one that is searched."""
        if view.codec.kind != "sparse":
            raise NotSparse(self.name, field=field)
        generation, latents = self._labelled
        if latents is None or generation != view.generation_id:
            latents = Latents(cast("SparseCodec", view.codec))
            self._labelled = view.generation_id, latents
        return latents

    def _decoded(self, item: store.Item, view: View) -> NDArray[np.float32]:
        """What is left of a vector that was dropped."""
        with self._database.reading() as session:
            codes = payload.codes_by_row(session, view.generation_id or 0, item.rows)
        if len(codes) < len(item.rows):
            raise Unavailable(f"the item {item.item_id!r} was changed meanwhile; try again")
        stored = np.array([list(code) for code in codes.values()], np.uint8)
        vector: NDArray[np.float32] = view.codec.decode(stored).mean(axis=0)
        return vector
