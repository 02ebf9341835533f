"""Any sequence of what can happen to a collection, here and where it is followed, against a plain dict."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from models import Metric, exact_neighbours
from service.admission import FEWEST_ITEMS
from service.errors import ItemNotFound
from service.generation import Build
from service.receipt import ItemStatus
from service.rollback import Rollback
from service.store import store
from tests.postgres import Postgres
from tests.test_collection import DIM, VECTORS, catalog_of, item, nearest

CODES = {"codec": {"bytes": 2 * DIM}, "training": {"epochs": 1}}
IDS = st.sampled_from([f"item-{number}" for number in range(30)])
BATCHES = st.dictionaries(IDS, st.tuples(st.integers(0, 399), st.integers(0, 2)), min_size=1, max_size=12)


class CollectionMachine(RuleBasedStateMachine):
    """Any sequence of ingest, update, delete, patch, training, rollback and restart, against a plain dict."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.where = self.place()
        self.expected: dict[str, tuple[int, dict[str, Any]]] = {}
        self.changes = 0
        self.trainings = 0
        self.generations: list[int] = []
        """The published one, and the one before it, which is kept."""

    def place(self) -> Path | str:
        return self.folder

    @initialize()
    def begin(self) -> None:
        self.database, catalog = catalog_of(self.where)
        self.writer = catalog.create("c", dimension=DIM, metric=Metric.L2)
        self.other_database, other = catalog_of(self.where)
        self.reader = other.open("c")
        self.ingest({f"base-{number}": (number, 0) for number in range(FEWEST_ITEMS)})

    @rule(batch=BATCHES)
    def ingest(self, batch: dict[str, tuple[int, int]]) -> None:
        receipt = self.writer.ingest([item(name, VECTORS[v], tag=tag) for name, (v, tag) in batch.items()])
        for result, (name, (v, tag)) in zip(receipt.results, batch.items(), strict=True):
            before, after = self.expected.get(name), (v, {"tag": tag})
            known = ItemStatus.UPDATED if before != after else ItemStatus.UNCHANGED
            assert result.status is (ItemStatus.INSERTED if before is None else known)
            self.expected[name] = after
            self.changes += before != after
        assert receipt.seq == self.changes

    @rule(ids=st.lists(IDS, max_size=5, unique=True))
    def delete(self, ids: list[str]) -> None:
        seq, deleted = self.writer.delete(ids)
        assert deleted == {name for name in ids if self.expected.pop(name, None)}
        self.changes += len(deleted)
        assert seq == self.changes

    @rule(name=IDS, value=st.integers(5, 6))
    def patch(self, name: str, value: int) -> None:
        if name not in self.expected:
            with pytest.raises(ItemNotFound):
                self.writer.patch(name, {"more": value}, 1000)
            return
        v, metadata = self.expected[name]
        self.changes += metadata.get("more") != value
        self.expected[name] = v, metadata | {"more": value}
        assert self.writer.patch(name, {"more": value}, 1000).item.item_id == name

    @precondition(lambda self: self.trainings < 2)  # each takes most of a second
    @rule()
    def train(self) -> None:
        self.trainings += 1
        build = Build(self.database, self.writer.id, CODES, self.folder / "scratch", lambda *_: None)
        published = build.run(10_000, keep=1)["generation"]
        shutil.rmtree(self.folder / "scratch")
        self.generations = [published, *self.generations[:1]]
        self.is_searched_by(published)

    @precondition(lambda self: len(self.generations) == 2)
    @rule()
    def roll_back(self) -> None:
        now, before = self.generations
        parameters = {"generation": before, "before": now}
        Rollback(self.database, self.writer.id, parameters, lambda *_: None, lambda _: None).run(1)
        self.generations = [before, now]
        self.is_searched_by(before)

    def is_searched_by(self, generation: int) -> None:
        for collection in (self.writer, self.reader):
            assert collection.follower.catch_up().generation_id == generation

    @rule(keep=st.integers(0, 12))
    def cut_the_log(self, keep: int) -> None:
        with self.database.writing() as session:
            row = store.lock_collection(session, self.writer.id)
            assert row is not None
            before = row.floor_seq
            assert store.purge_changes(session, row, keep, 1_000) == (self.changes - keep > before)
            assert row.floor_seq == max(before, self.changes - keep)

    @rule()
    def restart(self) -> None:
        self.database.close()
        self.database, catalog = catalog_of(self.where)
        self.writer = catalog.open("c")

    @rule(v=st.integers(0, 399), k=st.integers(1, 6))
    def search(self, v: int, k: int) -> None:
        self.reader.follower.catch_up()
        names = sorted(self.expected)
        if not names:
            assert nearest(self.writer, VECTORS[v], k) == []
            return
        base = VECTORS[[self.expected[name][0] for name in names]]
        scores = exact_neighbours(base, VECTORS[v : v + 1], min(k, len(names)), Metric.L2).scores[0]
        for collection in (self.writer, self.reader):
            found = nearest(collection, VECTORS[v], k)
            own = [-float(((VECTORS[self.expected[name][0]] - VECTORS[v]) ** 2).sum()) for name in found]
            np.testing.assert_allclose(own, scores, rtol=1e-3, atol=1e-2)

    @invariant()
    def every_item_is_there(self) -> None:
        if not hasattr(self, "writer"):
            return
        names = [*(f"item-{number}" for number in range(30)), *(f"base-{number}" for number in range(FEWEST_ITEMS))]
        for name, hit in zip(names, self.writer.get(names, vectors=True), strict=True):
            if name in self.expected:
                v, metadata = self.expected[name]
                assert hit is not None
                assert hit.vector is not None
                assert np.array_equal(hit.vector, VECTORS[v])
                assert json.loads(hit.item.metadata) == metadata
            else:
                assert hit is None

    def teardown(self) -> None:
        self.database.close()
        self.other_database.close()
        shutil.rmtree(self.folder)


TestCollectionMachine = CollectionMachine.TestCase
TestCollectionMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def test_the_same_over_postgresql(postgres: Postgres) -> None:
    class OverPostgres(CollectionMachine):
        def place(self) -> str:
            return postgres.new_database()

    run_state_machine_as_test(OverPostgres, settings=settings(max_examples=8, stateful_step_count=15, deadline=None))
