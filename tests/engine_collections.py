"""A trained collection to be copied to engines, and whether what an engine answers is what Codewell does."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from models import Codec, Metric, Vectors
from service.collection import Collection
from service.engines.column import Column, Form, column_of
from service.index.segment import IndexKind
from service.item import NewItem
from service.query import Example, Query
from service.search import Plan, Stage
from service.store.database import Database
from service.store.tables import GenerationRow
from service.swap import GenerationState, Swap
from tests.conftest import clustered
from tests.test_collection import catalog_of
from tests.test_originals import ignore

DIM = 16
VECTORS = clustered(1_000, DIM, seed=6)
QUERIES = clustered(12, DIM, seed=7)
CLOSE = 2e-3
"""Share of the scores' range in which float16 may confuse two items."""


def given(ids: Sequence[int], shift: int = 0) -> list[NewItem]:
    """Items whose vectors are those of the rows `shift` further."""
    return [NewItem(f"i{v}", None, VECTORS[v + shift], {"tag": v, "ä": [None, "\0"]}) for v in ids]


def publish(database: Database, collection: Collection, codec: Codec) -> None:
    """Makes the codec the collection's own, without training."""
    swap = Swap(database, collection.id, ignore, lambda _: None)
    row = GenerationRow(
        collection_id=collection.id,
        state=GenerationState.BUILDING,
        codec=codec.to_bytes(),
        fingerprint=codec.fingerprint,
        certificate={},
        created_at=0.0,
    )
    with database.writing() as session:
        session.add(row)
        session.flush()
        generation_id = row.id
    last = swap.encode(codec, generation_id, 0, (0, 1))
    swap.publish(codec, generation_id, last, GenerationState.BUILDING, {"oversample": 10})
    collection.follower.catch_up()


@contextmanager
def trained(folder: Path, codec: Codec, items: int = 400) -> Iterator[tuple[Database, Collection]]:
    """The collection `docs` under this codec."""
    database, catalog = catalog_of(folder)
    collection = catalog.create("docs", dimension=DIM, metric=Metric(codec.metric))
    collection.ingest(given(range(items)))
    publish(database, collection, codec)
    yield database, collection
    database.close()


def change(collection: Collection) -> dict[str, int]:
    """Deletes, replaces, adds, and changes only metadata; the tag of each item then."""
    collection.delete([f"i{v}" for v in range(0, 400, 7)])
    collection.ingest(given(range(1, 400, 7), shift=500))
    collection.ingest(given(range(400, 450)))
    same_vectors = [NewItem(f"i{v}", None, VECTORS[v], {"tag": -v}) for v in range(2, 400, 7)]
    collection.ingest(same_vectors)
    tags = {f"i{v}": v for v in range(450) if v >= 400 or v % 7}
    return tags | {f"i{v}": -v for v in range(2, 400, 7)}


Asked = Callable[[Column, Vectors], list[list[str]]]
"""The ten nearest of each of (q, D) queries, as the engine orders them."""


def check_tens(collection: Collection, form: Form, stage: Stage, asked: Asked) -> None:
    """They are Codewell's own over the same codes: place by place the same item, or one whose score differs by no more
    than float16 rounds.
    """
    found = asked(column_of(collection.follower.view().codec, form), QUERIES)
    plan = Plan(450, 1, IndexKind.FAISS, stage)
    answers = collection.search([Query((Example(vector=query),), plan) for query in QUERIES])
    same = 0
    for ten, answer in zip(found, answers, strict=True):
        scores = {hit.item.item_id: hit.score for hit in answer.hits}
        expected = list(scores)[:10]
        assert len(set(ten)) == 10
        spread = max(scores.values()) - min(scores.values())
        np.testing.assert_allclose([scores[one] for one in ten], [scores[one] for one in expected], atol=CLOSE * spread)
        same += ten == expected
    assert same >= 0.8 * len(QUERIES)
