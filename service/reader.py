"""What one collection answers in one process: items, searches, lists and counts. Writes nothing; knows no HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from models import Metric, Neighbours, Vectors
from service.errors import CollectionNotFound, ItemNotFound, NoEncoder, Unavailable
from service.filter import Every, Filter, Kind
from service.filter_follower import FilterFollower
from service.follower import PAGE, Follower
from service.index.exact import exact_search
from service.index.filters import FilterView
from service.index.segment import IndexKind, RowArray
from service.index.view import View
from service.item import checked_vector
from service.originals import Originals, decoded
from service.query import Answer, Hit, Query, by_codes, why_fewer
from service.search import Plan, search
from service.store import payload, store
from service.store.database import Database
from service.store.tables import CollectionRow
from service.text.encoder import TextEncoder

FACETS = (Kind.STRING, Kind.NUMBER, Kind.BOOLEAN)
"""The kinds of values that are counted one by one."""


class Reader:
    """Thread-safe. What it answers comes from immutable views that follow the log."""

    def __init__(
        self,
        row: CollectionRow,
        database: Database,
        encoder: TextEncoder | None,
        computing: AbstractContextManager[object],
    ) -> None:
        self.id = row.id
        self.name = row.name
        self.dim = row.dimension
        self.metric = Metric(row.metric)
        self.originals = Originals(row.originals)
        self._database = database
        self._encoder = encoder
        self._computing = computing
        self.follower = Follower(row, database)
        self._filters = FilterFollower(row.id, row.name, database)

    def get(self, ids: Sequence[str], *, vectors: bool = False) -> list[Hit | None]:
        """The items in the order of `ids`, none for those that do not exist; scores are 0."""
        with self._database.reading() as session:
            known = store.items_by_id(session, self.id, ids)
            rows = [item.row_id for item in known.values()]
            stored = payload.vectors_by_row(session, self.id, rows) if vectors else {}
        return [
            Hit(known[item_id], 0.0, self._vector(stored.get(known[item_id].row_id))) if item_id in known else None
            for item_id in ids
        ]

    def scroll(self, wanted: Filter, after: int, limit: int, *, vectors: bool = False) -> tuple[list[Hit], int | None]:
        """The next items that the filter chooses, in the order in which their vectors came, and where to go on.

        An item whose vector changes moves to the end; of the others each is listed once, whatever is written meanwhile.
        """
        with self._database.reading() as session:
            if wanted == Every():
                rows = [item.row_id for item in store.items_after(session, self.id, after, limit)]
            else:
                chosen = self._filters.view(self._row(session).seq).rows(wanted)
                rows = np.sort(chosen[chosen > after])[:limit].tolist()
            items = store.items_by_row(session, self.id, rows)
            stored = payload.vectors_by_row(session, self.id, rows) if vectors else {}
        hits = [Hit(items[row], 0.0, self._vector(stored.get(row))) for row in rows if row in items]
        return hits, rows[-1] if len(rows) == limit else None

    def count(self, wanted: Filter) -> int:
        """How many items the filter chooses."""
        return len(self._newest_filters().rows(wanted))

    def facets(self, path: str, wanted: Filter, limit: int) -> list[tuple[bool | float | str, int]]:
        """The values at `path` that most of the chosen items have, each with their number."""
        filters = self._newest_filters()
        counts = [(_plain(value), n) for kind in FACETS for value, n in filters.counts(path, kind, wanted).items()]
        return sorted(counts, key=lambda pair: (-pair[1], str(pair[0])))[:limit]

    def search(
        self, queries: Sequence[Query], *, vectors: bool = False, min_seq: int = 0, wait_seconds: float = 0
    ) -> list[Answer]:
        """Answers queries over one and the same view, of `min_seq` or later; those with equal plans in one pass.

        Raises:
            ItemNotFound, InvalidInput; Unavailable: the log did not come to `min_seq` within `wait_seconds`.
        """
        view = self.follower.view(min_seq, wait_seconds)
        points, own_rows, warnings = self._points(queries, view)
        dropped = self.originals is Originals.DROP and view.generation_id is not None
        plans: dict[tuple[Plan, Filter | None], list[int]] = {}
        for index, query in enumerate(queries):
            plans.setdefault((query.plan, query.filter), []).append(index)
        found: dict[int, tuple[RowArray, Vectors]] = {}
        expected: dict[int, int] = {}
        for (plan, wanted), members in plans.items():
            chosen = view if wanted is None else view.only(self._filters.view(view.applied_seq).rows(wanted))
            if dropped:
                plan = by_codes(plan, queries[members[0]].field)
            # A query by example does not answer with the example itself: one more is looked for, and it is left out.
            wider = Plan(plan.k + 1, plan.oversample, plan.kind, plan.stage)
            best = self._neighbours(chosen, points[members], wider if own_rows else plan, whole=wanted is None)
            for index, rows, scores in zip(members, best.rows, best.scores, strict=True):
                keep = (rows >= 0) & (rows != own_rows.get(index, -1))
                found[index] = rows[keep][: plan.k], scores[keep][: plan.k]
                expected[index] = min(plan.k, len(chosen) - (own_rows.get(index) in chosen))
        every_row = sorted({int(row) for rows, _ in found.values() for row in rows})
        with self._database.reading() as session:
            items = store.items_by_row(session, self.id, every_row)
            stored = payload.vectors_by_row(session, self.id, every_row) if vectors else {}
        answers = []
        for index, query in enumerate(queries):
            rows, scores = found[index]
            hits = [
                Hit(items[row], float(score), self._vector(stored.get(row)))
                for row, score in zip(rows.tolist(), scores, strict=True)
                if row in items
            ]
            reason = why_fewer(query.plan, expected[index] - len(hits))
            answers.append(Answer(hits, view.generation_id, reason, warnings.get(index)))
        return answers

    def _neighbours(self, view: View, points: Vectors, plan: Plan, *, whole: bool) -> Neighbours:
        """`whole`: nothing of the collection is left out of the view."""
        with self._computing:
            if plan.kind is IndexKind.EXACT and view.generation_id is not None:
                blocks = self._blocks() if whole else self._blocks_of(view.live_rows())
                return exact_search(blocks, points, plan.k, self.metric)
            return search(view, points, plan, self._originals)

    def _points(self, queries: Sequence[Query], view: View) -> tuple[Vectors, dict[int, int], dict[int, str | None]]:
        """(q, D) query vectors, the row of each query by id, and what the encoder says of each text."""
        points = np.zeros((len(queries), self.dim), np.float32)
        texts = {index: query.text for index, query in enumerate(queries) if query.text is not None}
        examples = {index: query.id for index, query in enumerate(queries) if query.id is not None}
        for index, query in enumerate(queries):
            if query.vector is not None:
                points[index] = checked_vector(query.vector, self.dim, self.metric, f"{query.field}vector")
            elif query.text is not None and self._encoder is None:
                raise NoEncoder(self.name, field=f"{query.field}text")
        own_rows: dict[int, int] = {}
        warnings: dict[int, str | None] = {}
        if examples:
            stored = self.get(list(examples.values()), vectors=True)
            for (index, item_id), hit in zip(examples.items(), stored, strict=True):
                if hit is None:
                    raise ItemNotFound(item_id, field=f"{queries[index].field}id")
                points[index] = hit.vector if hit.vector is not None else self._decoded(hit.item, view)
                own_rows[index] = hit.item.row_id
        if texts:
            encoded = self._text_encoder("text").encode(list(texts.values()))
            points[list(texts)] = encoded.vectors
            warnings = dict(zip(texts, encoded.warnings, strict=True))
        return points, own_rows, warnings

    def is_behind(self, head: store.Head) -> bool:
        """Whether the database holds more than the views that there are."""
        return self.follower.is_behind(head) or self._filters.is_behind(head.seq)

    def follow(self) -> None:
        """Brings the views that there are to the end of the log."""
        self.follower.follow()
        self._filters.follow()

    def _newest_filters(self) -> FilterView:
        with self._database.reading() as session:
            seq = self._row(session).seq
        return self._filters.view(seq)

    def _text_encoder(self, field: str) -> TextEncoder:
        if self._encoder is None:
            raise NoEncoder(self.name, field=field)
        return self._encoder

    def _originals(self, rows: RowArray) -> Mapping[int, bytes]:
        with self._database.reading() as session:
            return payload.vectors_by_row(session, self.id, rows.tolist())

    def _vector(self, stored: bytes | None) -> NDArray[np.float32] | None:
        return None if stored is None else decoded([stored], self.dim)[0]

    def _decoded(self, item: store.Item, view: View) -> NDArray[np.float32]:
        """What is left of a vector that was dropped."""
        with self._database.reading() as session:
            codes = payload.codes_by_row(session, view.generation_id or 0, [item.row_id])
        if item.row_id not in codes:
            raise Unavailable(f"the item {item.item_id!r} was changed meanwhile; try again")
        vector: NDArray[np.float32] = view.codec.decode(np.array([list(codes[item.row_id])], np.uint8))[0]
        return vector

    def _blocks(self) -> Iterator[tuple[RowArray, Vectors]]:
        last = 0
        while True:
            with self._database.reading() as session:
                page = payload.vectors_after(session, self.id, last, PAGE)
            if not page:
                return
            yield np.array([row for row, _ in page], np.int64), decoded([vector for _, vector in page], self.dim)
            last = page[-1][0]

    def _blocks_of(self, rows: RowArray) -> Iterator[tuple[RowArray, Vectors]]:
        """The vectors of ascending rows, without those that are gone."""
        for start in range(0, len(rows), PAGE):
            stored = self._originals(rows[start : start + PAGE])
            kept = np.array(sorted(stored), np.int64)
            yield kept, decoded([stored[row] for row in kept.tolist()], self.dim)

    def _row(self, session: Session, *, lock: bool = False) -> CollectionRow:
        row = store.lock_collection(session, self.id) if lock else session.get(CollectionRow, self.id)
        if row is None:
            raise CollectionNotFound(self.name, field="collection")
        return row


def _plain(value: bool | float | str) -> bool | float | str:
    """Whole numbers as they were sent."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
