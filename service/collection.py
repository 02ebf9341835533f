"""One collection in one process: ingest, search, and the view that follows the log. The heart; knows no HTTP."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from models import Metric, Neighbours, Vectors
from service.batch import Batch
from service.errors import CollectionNotFound, ItemNotFound, NoEncoder, Unavailable
from service.follower import PAGE, Follower
from service.index.exact import exact_search
from service.index.segment import IndexKind, RowArray
from service.index.view import View
from service.item import Malformed, NewItem, checked_metadata, checked_vector, merge_patch
from service.originals import Originals, decoded
from service.query import Answer, Hit, Query, by_codes, why_fewer
from service.receipt import Receipt, batch_rejected
from service.search import Plan, search
from service.store import payload, receipts, store
from service.store.database import Database
from service.store.tables import CollectionRow
from service.terms import Terms, changed
from service.text.encoder import TextEncoder

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Times that an ingest encodes again because the collection changed meanwhile."""


class Collection:
    """Thread-safe. What it answers comes from an immutable view; what it acknowledges is in the database."""

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

    # ------------------------------------------------------------------ ingest

    def ingest(self, items: Sequence[NewItem | Malformed], terms: Terms = Terms()) -> Receipt:  # noqa: B008 - frozen
        """Inserts and updates by id; what the receipt names is committed and found by this process's next search.

        Raises:
            BatchRejected, BatchConflict: the terms are atomic and an item cannot be kept, or is not in the state that
                was asked for; nothing was written. KeyReused.
        """
        batch = Batch(items, self.name, self.dim, self.metric, self._encoder, terms.mode, self.originals)
        if terms.atomic and batch.results:
            raise batch_rejected("the batch is atomic", batch.results.values())
        for _ in range(ATTEMPTS):
            if (receipt := self._write(batch, terms)) is not None:
                self._follow()
                return receipt
        raise Unavailable("the collection kept changing while the batch was encoded; try again")

    def _write(self, batch: Batch, terms: Terms) -> Receipt | None:
        """One attempt; none where the collection changed between encoding, outside any lock, and writing."""
        with self._database.reading() as session:
            if terms.once is not None and (kept := receipts.kept_receipt(session, self.id, terms.once)) is not None:
                return Receipt.from_json(kept)
            known = store.items_by_id(session, self.id, batch.ids)
            generation_id = self._row(session).generation_id
            codec = self.follower.codec(session, generation_id)
        batch.encode(known, codec if generation_id is not None else None)
        with self._database.writing() as session:
            row = self._row(session, lock=True)
            writes = batch.writes(store.items_by_id(session, self.id, batch.ids))
            if row.generation_id != generation_id or writes is None:
                return None
            if terms.atomic and (refused := batch.refused()):
                raise batch_rejected("the batch is atomic", refused)
            if terms.once is not None and (kept := receipts.kept_receipt(session, self.id, terms.once)) is not None:
                return Receipt.from_json(kept)
            store.write_items(session, row, writes, time.time())
            receipt = Receipt(self.name, row.seq, batch.ordered_results())
            if terms.once is not None:
                receipts.keep_receipt(session, self.id, terms.once, receipt.to_json(), time.time())
            return receipt

    # ------------------------------------------------------------------ items

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

    def patch(self, item_id: str, changes: Mapping[str, Any], max_bytes: int, if_seq: int | None = None) -> Hit:
        """Merges `changes` into the metadata (JSON Merge Patch, RFC 7396); the vector keeps its row and code.

        Raises:
            ItemNotFound; SeqConflict: the item was changed after `if_seq`; InvalidInput: the metadata would be longer
                than `max_bytes`, too deep, or no JSON.
        """
        with self._database.writing() as session:
            row = self._row(session, lock=True)
            item = store.items_by_id(session, self.id, [item_id]).get(item_id)
            if item is None:
                raise ItemNotFound(item_id, field="id")
            if (conflict := changed(if_seq, item.seq, "if_seq")) is not None:
                raise conflict
            metadata = checked_metadata(merge_patch(json.loads(item.metadata), changes), max_bytes, "metadata")
            if metadata != item.metadata:
                write = store.Write(item_id, item.digest, item.text, metadata, None, None)
                store.write_items(session, row, [write], time.time())
            item = store.items_by_id(session, self.id, [item_id])[item_id]
        self._follow()
        return Hit(item, 0.0)

    def delete(self, ids: Sequence[str], if_seq: int | None = None) -> tuple[int, set[str]]:
        """Removes items; returns the collection's seq and the ids that existed.

        Raises:
            SeqConflict: one of them was changed after `if_seq`; none was removed.
        """
        with self._database.writing() as session:
            row = self._row(session, lock=True)
            if if_seq is not None:
                for item in store.items_by_id(session, self.id, ids).values():
                    if (conflict := changed(if_seq, item.seq, "if_seq")) is not None:
                        raise conflict
            deleted = store.delete_items(session, row, ids)
            seq = row.seq
        self._follow()
        return seq, deleted

    # ------------------------------------------------------------------ search

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
        plans: dict[Plan, list[int]] = {}
        for index, query in enumerate(queries):
            plans.setdefault(query.plan, []).append(index)
        found: dict[int, tuple[RowArray, Vectors]] = {}
        for plan, members in plans.items():
            if dropped:
                plan = by_codes(plan, queries[members[0]].field)
            # A query by example does not answer with the example itself: one more is looked for, and it is left out.
            wider = Plan(plan.k + 1, plan.oversample, plan.kind, plan.stage)
            best = self._neighbours(view, points[members], wider if own_rows else plan)
            for index, rows, scores in zip(members, best.rows, best.scores, strict=True):
                keep = (rows >= 0) & (rows != own_rows.get(index, -1))
                found[index] = rows[keep][: plan.k], scores[keep][: plan.k]
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
            missing = min(query.plan.k, len(view) - (index in own_rows)) - len(hits)
            reason = why_fewer(query.plan, missing)
            answers.append(Answer(hits, view.generation_id, reason, warnings.get(index)))
        return answers

    def _neighbours(self, view: View, points: Vectors, plan: Plan) -> Neighbours:
        with self._computing:
            if plan.kind is IndexKind.EXACT and view.generation_id is not None:
                return exact_search(self._blocks(), points, plan.k, self.metric)
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

    def _follow(self) -> None:
        """Lets the next search find what was just committed; the commit stands whether or not that works now."""
        try:
            self.follower.follow()
        except Exception:
            log.exception("%s could not follow its log; the poller goes on trying", self.name)

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

    def _row(self, session: Session, *, lock: bool = False) -> CollectionRow:
        row = store.lock_collection(session, self.id) if lock else session.get(CollectionRow, self.id)
        if row is None:
            raise CollectionNotFound(self.name, field="collection")
        return row
