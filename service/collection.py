"""One collection in one process: what it is told and, by its searcher, what it answers. The heart; knows no HTTP."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models import Vectors
from service.batch import Batch
from service.errors import CollectionNotFound, ItemNotFound, Unavailable
from service.examiner import Examiner
from service.filter import Filter
from service.item import DEEPEST_METADATA, Malformed, NewItem, checked_metadata, merge_patch
from service.profile import Operation, Profile
from service.query import Hit
from service.quota import UNLIMITED, Quota
from service.receipt import ItemStatus, Receipt, batch_rejected
from service.store import queries, receipts, store
from service.terms import Terms, changed

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Times that an ingest encodes again because the collection changed meanwhile."""


class Collection(Examiner):
    """Thread-safe. What it answers comes from immutable views; what it acknowledges is in the database."""

    # ------------------------------------------------------------------ queries to measure by

    def give_queries(self, vectors: Sequence[Vectors], field: str) -> None:
        """Keeps (D,) queries, by which codecs are measured from then on where there are enough.

        Raises:
            InvalidInput: one is no vector of this collection's.
        """
        self._keep_queries(self._checked(vectors, field), None)

    def log_queries(self, epoch: int | None) -> None:
        """Keeps some of the queries that this process was asked since the last time, if any were and this is still the
        epoch; passes them by where it is none.
        """
        if len(vectors := self._recent.fresh(self.dim)) and epoch is not None:
            self._keep_queries(vectors, epoch)

    def held_queries(self) -> queries.Held:
        """How many are kept."""
        with self._database.reading() as session:
            return queries.held(session, self.id)

    def forget_queries(self) -> None:
        """Removes all that are kept."""
        with self._database.writing() as session:
            queries.forget(session, self.id)

    def _keep_queries(self, vectors: Vectors, epoch: int | None) -> None:
        stored = [vector.tobytes() for vector in np.asarray(vectors, "<f4")]
        with self._database.writing() as session:
            row = store.lock_collection(session, self.id)
            if row is None:
                raise CollectionNotFound(self.name, field="collection")
            if epoch is None or (row.log_queries and row.query_epoch == epoch):
                queries.add(session, self.id, stored, logged=epoch is not None, now=time.time())

    # ------------------------------------------------------------------ ingest

    def ingest(self, items: Sequence[NewItem | Malformed], terms: Terms = Terms()) -> Receipt:  # noqa: B008 - frozen
        """Inserts and updates by id; what the receipt names is committed and found by this process's next search.

        Raises:
            BatchRejected, BatchConflict: the terms are atomic and an item cannot be kept, or is not in the state that
                was asked for; nothing was written. KeyReused. QuotaExceeded: nothing was written.
        """
        profile = Profile(Operation.INGEST, self.name)
        batch = Batch(
            items,
            self.name,
            self.dim,
            self.metric,
            self._encoder,
            terms.mode,
            self.originals,
            chunking=self.chunking,
            max_chunks=self._max_chunks,
        )
        if terms.atomic and batch.results:
            raise batch_rejected("the batch is atomic", batch.results.values())
        for _ in range(ATTEMPTS):
            if (receipt := self._write(batch, terms, profile)) is not None:
                self._written(profile)
                return receipt
        raise Unavailable("the collection kept changing while the batch was encoded; try again")

    def _write(self, batch: Batch, terms: Terms, profile: Profile) -> Receipt | None:
        """One attempt; none where the collection changed between encoding, outside any lock, and writing."""
        with self._database.reading() as session:
            if terms.once is not None and (kept := receipts.kept_receipt(session, self.id, terms.once)) is not None:
                return Receipt.from_json(kept)
            known = store.items_by_id(session, self.id, batch.ids)
            generation_id = self._row(session).generation_id
            codec = self.follower.codec(session, generation_id)
        with profile.stage("encode"):
            batch.encode(known, codec if generation_id is not None else None)
        with profile.stage("database"), self._database.writing() as session:
            row = self._row(session, lock=True)
            writes = batch.writes(store.items_by_id(session, self.id, batch.ids))
            if row.generation_id != generation_id or writes is None:
                return None
            if terms.atomic and (refused := batch.refused()):
                raise batch_rejected("the batch is atomic", refused)
            if terms.once is not None and (kept := receipts.kept_receipt(session, self.id, terms.once)) is not None:
                return Receipt.from_json(kept)
            before = store.size_of(row)
            store.write_items(session, row, writes, time.time())
            terms.quota.check(session, row, before)
            receipt = Receipt(self.name, row.seq, batch.ordered_results())
            if terms.once is not None:
                receipts.keep_receipt(session, self.id, terms.once, receipt.to_json(), time.time())
            for result in receipt.results:
                profile.count(result.status, 1)
            return receipt

    # ------------------------------------------------------------------ items

    def patch(
        self,
        item_id: str,
        changes: Mapping[str, Any],
        max_bytes: int,
        if_seq: int | None = None,
        *,
        max_depth: int = DEEPEST_METADATA,
        quota: Quota = UNLIMITED,
    ) -> Hit:
        """Merges `changes` into the metadata (JSON Merge Patch, RFC 7396); the vector keeps its row and code.

        Raises:
            ItemNotFound; SeqConflict: the item was changed after `if_seq`; InvalidInput: the metadata would be longer
                than `max_bytes`, deeper than `max_depth`, or no JSON; QuotaExceeded.
        """
        profile = Profile(Operation.UPDATE, self.name)
        with profile.stage("database"), self._database.writing() as session:
            row = self._row(session, lock=True)
            item = store.items_by_id(session, self.id, [item_id]).get(item_id)
            if item is None:
                raise ItemNotFound(item_id, field="id")
            if (conflict := changed(if_seq, item.seq, "if_seq")) is not None:
                raise conflict
            merged = merge_patch(json.loads(item.metadata), changes)
            metadata = checked_metadata(merged, max_bytes, "metadata", max_depth)
            if metadata != item.metadata:
                before = store.size_of(row)
                write = store.Write(item_id, item.digest, item.text, metadata, item.chunks)
                store.write_items(session, row, [write], time.time())
                quota.check(session, row, before)
                profile.count(ItemStatus.UPDATED, 1)
            item = store.items_by_id(session, self.id, [item_id])[item_id]
        self._written(profile)
        return Hit(item, 0.0)

    def delete(self, ids: Sequence[str], if_seq: int | None = None) -> tuple[int, set[str]]:
        """Removes items; returns the collection's seq and the ids that existed.

        Raises:
            SeqConflict: one of them was changed after `if_seq`; none was removed.
        """
        profile = Profile(Operation.DELETE, self.name)
        with profile.stage("database"), self._database.writing() as session:
            row = self._row(session, lock=True)
            if if_seq is not None:
                for item in store.items_by_id(session, self.id, ids).values():
                    if (conflict := changed(if_seq, item.seq, "if_seq")) is not None:
                        raise conflict
            deleted = store.delete_items(session, row, ids)
            seq = row.seq
        profile.count("deleted", len(deleted))
        self._written(profile)
        return seq, deleted

    def delete_chosen(self, wanted: Filter) -> tuple[int, int]:
        """Removes, in one transaction, the items that the filter chooses; returns the collection's seq and how many."""
        profile = Profile(Operation.DELETE, self.name)
        with profile.stage("filter"):
            filters = self._newest_filters()
        with profile.stage("database"), self._database.writing() as session:
            row = self._row(session, lock=True)
            rows = self._chosen(session, row, filters, wanted)
            items = store.items_by_row(session, self.id, rows.tolist())
            store.delete_items(session, row, [item.item_id for item in items.values()])
            seq = row.seq
        profile.count("deleted", len(items))
        self._written(profile)
        return seq, len(items)

    def _written(self, profile: Profile) -> None:
        with profile.stage("view"):
            self._follow()
        self._observe(profile)

    def _follow(self) -> None:
        """Lets the next search find what was just committed; the commit stands whether or not that works now."""
        try:
            self.follow()
        except Exception:
            log.exception("%s could not follow its log; the poller goes on trying", self.name)
