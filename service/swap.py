"""How a collection goes from one generation to another: missing codes are made, then all is swapped in one transaction.

Knows no training and no measurement.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Codec, Vectors
from service.errors import CollectionNotFound, NotKept
from service.index.segment import RowArray
from service.originals import decoded
from service.store import payload, store
from service.store.database import Database
from service.store.tables import CollectionRow, GenerationRow

PAGE = 5_000

Report = Callable[[float, str], None]
"""Progress 0..1 and what is being done; raises TrainingStopped where the job is to end."""


Fence = Callable[[Session], object]
"""Called in each transaction that publishes or frees: raises TrainingStopped where another start has the job now."""


class GenerationState(StrEnum):
    """The life of a generation."""

    BUILDING = "building"
    PUBLISHED = "published"
    KEPT = "kept"
    """Published before; its codes are kept, for there may be a way back to it."""
    REFUSED = "refused"
    """Measured and found below its contract."""
    RETIRED = "retired"
    """Its codes are freed; codec and certificate stay."""


Page = list[tuple[int, bytes]]
"""Rows, each with its vector or with its code."""
WITH_CODES = (GenerationState.PUBLISHED, GenerationState.KEPT)


class Swap:
    """One job's work on the generations of one collection; search and ingest go on throughout."""

    doing = "encoding"

    def __init__(self, database: Database, collection_id: int, report: Report, fence: Fence) -> None:
        self._database = database
        self._id = collection_id
        self._report = report
        self._fence = fence

    def row(self, session: Session, *, lock: bool = False) -> CollectionRow:
        """The collection.

        Raises:
            CollectionNotFound
        """
        row = store.lock_collection(session, self._id) if lock else session.get(CollectionRow, self._id)
        if row is None:
            raise CollectionNotFound("the collection was deleted", field="collection")
        return row

    def blocks(self) -> Iterator[tuple[RowArray, Vectors]]:
        """All vectors, in the order of rows, read in short transactions."""
        last = 0
        while True:
            with self._database.reading() as session:
                dim = self.row(session).dimension
                page = payload.vectors_after(session, self._id, last, PAGE)
            if not page:
                return
            yield np.array([row for row, _ in page], np.int64), decoded([vector for _, vector in page], dim)
            last = page[-1][0]

    def encode(self, codec: Codec, generation_id: int, last: int, share: tuple[float, float]) -> int:
        """Stores the codes of the rows after `last` that have none, and returns the new last one.

        Rows deleted meanwhile get none. `share` is where the job's progress begins and ends.
        """
        done, (begin, end) = 0, share
        with self._database.reading() as session:
            total = max(1, payload.count_rows(session, self._id))
        while True:
            with self._database.reading() as session:
                page = self._pending(session, generation_id, last)
            if not page:
                return last
            codes = self._coded(codec, page)
            with self._database.writing() as session:
                self.row(session, lock=True)
                alive = payload.rows_alive(session, self._id, page[0][0], page[-1][0])
                payload.add_codes(session, generation_id, [entry for entry in codes if entry[0] in alive])
            last, done = page[-1][0], done + len(page)
            self._report(begin + (end - begin) * min(1.0, done / total), f"{self.doing}: {done} of {total} items")

    def publish(
        self,
        codec: Codec,
        generation_id: int,
        last: int,
        expected: GenerationState,
        certificate: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        """Encodes what came last under the collection's lock and swaps; the one before it is kept for a way back.

        Rows ascend: up to `last` all have codes. A certificate goes with what was measured now, a `spec` with what
        the collection is to train from now on.

        Raises:
            NotKept: the generation is no more in the state that is `expected`; nothing was swapped.
        """
        with self._database.writing() as session:
            row = self.row(session, lock=True)
            self._fence(session)
            generation = session.get_one(GenerationRow, generation_id, populate_existing=True)
            if generation.state != expected:
                raise NotKept(f"generation {generation_id} is {generation.state}, not {expected}", field="generation")
            while page := self._pending(session, generation_id, last):
                payload.add_codes(session, generation_id, self._coded(codec, page))
                last = page[-1][0]
            if row.generation_id is not None:
                session.get_one(GenerationRow, row.generation_id).state = GenerationState.KEPT
            generation.state, generation.published_at = GenerationState.PUBLISHED, time.time()
            if certificate is not None:
                generation.certificate, generation.oversample = dict(certificate), certificate["oversample"]
            row.generation_id = generation_id
            if spec is not None:
                row.codec = dict(spec)

    def refuse(self, generation_id: int, certificate: Mapping[str, Any]) -> None:
        """Keeps what was measured of a generation that is not published, and frees its codes."""
        with self._database.writing() as session:
            self.row(session, lock=True)
            self._fence(session)
            generation = session.get_one(GenerationRow, generation_id)
            generation.state, generation.certificate = GenerationState.REFUSED, dict(certificate)
            generation.oversample = certificate["oversample"]
        self._free(generation_id)

    def sweep(self, keep: int) -> None:
        """Frees the codes of all generations but the published one and the `keep` that were published last before it:
        those of older ones, and of builds that were cut off or refused.
        """
        with self._database.reading() as session:
            every = session.scalars(select(GenerationRow).where(GenerationRow.collection_id == self._id)).all()
            published = self.row(session).generation_id
        kept = [generation for generation in every if generation.state == GenerationState.KEPT]
        kept.sort(key=lambda generation: generation.published_at or 0.0, reverse=True)
        spared = {published, *(generation.id for generation in kept[:keep])}
        for generation in every:
            if generation.id not in spared and generation.state != GenerationState.RETIRED:
                self._free(generation.id)

    def _pending(self, session: Session, generation_id: int, last: int) -> Page:
        """What codes are made of: the next vectors after the row `last` that have none."""
        return payload.vectors_without_code(session, self._id, generation_id, last, PAGE)

    def _coded(self, codec: Codec, page: Page) -> Page:
        """Their codes."""
        codes = codec.encode(decoded([vector for _, vector in page], codec.dim))
        return [(row, code.tobytes()) for (row, _), code in zip(page, codes, strict=True)]

    def _free(self, generation_id: int) -> None:
        """A page at a time; marked as freed before the first, so that nobody publishes it meanwhile."""
        freed = True
        while freed:
            with self._database.writing() as session:
                row = self.row(session, lock=True)
                self._fence(session)
                if row.generation_id == generation_id:
                    return
                generation = session.get_one(GenerationRow, generation_id)
                if generation.state != GenerationState.REFUSED:
                    generation.state = GenerationState.RETIRED
                freed = payload.retire_codes(session, generation_id, PAGE)
