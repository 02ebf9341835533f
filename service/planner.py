"""A plan over the vectors of a collection. Runs in a job's own process; knows no code that is tried, and no HTTP."""

from collections.abc import Mapping

import numpy as np

from models import Metric, Vectors, prepared
from service.admission import FEWEST_PLANNED, few
from service.compare.vectors import Cut, Sample
from service.contract import ContractSpec
from service.errors import CollectionNotFound, TooFewItems
from service.index.segment import RowArray
from service.originals import Originals, decoded
from service.planning.plan import Plan
from service.planning.point import Trial
from service.planning.wish import PlanSpec
from service.search import Stage
from service.settings import Settings
from service.store import payload
from service.store.database import Database
from service.store.tables import CollectionRow
from service.swap import PAGE, Report
from service.user_queries import user_queries


class Planner:
    """Plans for one collection, on a sample of its vectors in the order in which they came."""

    def __init__(self, database: Database, collection_id: int, wish: PlanSpec, settings: Settings) -> None:
        self._database = database
        self._id = collection_id
        self._settings = settings
        with database.reading() as session:
            row = session.get(CollectionRow, collection_id)
            if row is None:
                raise CollectionNotFound("the collection was deleted", field="collection")
            self._dim, self._metric, self._items = row.dimension, Metric(row.metric), row.row_count
            keeps = row.originals != Originals.DROP
        if wish.contract is None and row.contract is not None:
            wish = wish.model_copy(update={"contract": ContractSpec.model_validate(row.contract)})
        self._wish = wish
        self._stage = Stage.RESCORE if (keeps if wish.rescore is None else wish.rescore) else Stage.REFINE

    def run(self, report: Report) -> Plan:
        """The measured plan.

        Raises:
            TooFewItems, TrainingStopped
        """
        wish = self._wish
        report(0.0, "reading vectors")
        rows, vectors = self._sampled(wish.sample or self._settings.plan_sample)
        given = user_queries(self._database, self._id, self._dim, self._metric, wish.recalls)
        sample = Sample.of(vectors, None if given is None else given.vectors)
        cut = Cut.of(len(rows), asks=given is None)
        searched = rows[np.concatenate((cut.seen, cut.late))]

        def originals(places: RowArray) -> Mapping[int, bytes]:
            with self._database.reading() as session:
                stored = payload.vectors_by_row(session, self._id, searched[places].tolist())
            pairs = zip(places.tolist(), searched[places].tolist(), strict=True)
            return {place: stored[row] for place, row in pairs if row in stored}

        trial = Trial(
            sample,
            self._metric,
            wish.items or self._items,
            wish.recalls,
            self._stage,
            min(wish.most_oversample, self._settings.max_oversample),
            wish.seed,
            originals,
        )
        plan = Plan(wish, trial, wish.minutes or self._settings.plan_minutes)
        plan.run(report)
        return plan

    def _sampled(self, most: int) -> tuple[RowArray, Vectors]:
        """Rows, evenly spaced over those whose vectors are kept, and their (n, D) vectors, prepared."""
        pages, last = [np.empty(0, np.int64)], 0
        while True:
            with self._database.reading() as session:
                page = payload.rows_after(session, self._id, last, PAGE)
            if not page:
                break
            pages.append(np.array(page, np.int64))
            last = page[-1]
        every = np.concatenate(pages)
        chosen = every[np.linspace(0, len(every) - 1, min(most, len(every))).astype(np.int64)]
        rows, vectors = [np.empty(0, np.int64)], [np.empty((0, self._dim), np.float32)]
        for start in range(0, len(chosen), PAGE):
            with self._database.reading() as session:
                stored = payload.vectors_by_row(session, self._id, chosen[start : start + PAGE].tolist())
            there = sorted(stored)
            rows.append(np.array(there, np.int64))
            vectors.append(prepared(decoded([stored[row] for row in there], self._dim), self._metric))
        if (kept := sum(map(len, rows))) < FEWEST_PLANNED:
            raise TooFewItems(few(kept), field="collection")
        return np.concatenate(rows), np.concatenate(vectors)
