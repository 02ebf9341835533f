"""What may be kept is kept and nothing more, on both databases; bytes are counted as they are stored."""

from collections.abc import Iterator
from pathlib import Path
from threading import Semaphore

import pytest
from sqlalchemy import text

from models import Metric
from service.catalog import Catalog
from service.collection import Collection
from service.errors import QuotaExceeded
from service.item import NewItem
from service.originals import Originals
from service.quota import Quota
from service.store import store
from service.store.database import Database
from service.terms import Terms
from service.verification import verify
from tests.test_collection import VECTORS, catalog_of, item


def size(database: Database, collection: Collection) -> store.Size:
    with database.reading() as session:
        row = store.found_collection(session, collection.name)
        assert store.counted_bytes(session, row) == row.stored_bytes
        return store.size_of(row)


def test_bytes_are_those_of_ids_texts_metadata_and_vectors(database_url: str) -> None:
    database, catalog = catalog_of(database_url)
    kept = {
        originals: catalog.create(originals.value, dimension=8, metric=Metric.L2, originals=originals)
        for originals in (Originals.FLOAT32, Originals.FLOAT16)
    }
    for originals, width in ((Originals.FLOAT32, 4), (Originals.FLOAT16, 2)):
        collection = kept[originals]
        collection.ingest([NewItem("ä\\b", "fünf", VECTORS[0], {"n": 1}), item("b", VECTORS[1])])
        words = len("ä\\b".encode()) + len("fünf".encode()) + len('{"n":1}') + len("b{}")
        assert size(database, collection) == (2, words + 2 * 8 * width)
        collection.ingest([NewItem("ä\\b", None, VECTORS[2], {"n": 1})])
        assert size(database, collection) == (2, words - len("fünf".encode()) + 2 * 8 * width)
        collection.patch("b", {"longer": "x" * 100}, 1_000)
        assert size(database, collection).bytes == words - len("fünf".encode()) + len('"longer":""') + 100 + 16 * width
        collection.delete(["ä\\b", "none"])
        assert size(database, collection).items == 1
        collection.delete(["b"])
        assert size(database, collection) == (0, 0)
    assert list(verify(database)) == []
    with database.writing() as session:
        session.execute(text("UPDATE collections SET stored_bytes = 7 WHERE name = 'float16'"))
    assert [difference.what for difference in verify(database)] == ["it counts 7 bytes and holds 0"]
    database.close()


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    database, catalog = catalog_of(database_url)
    catalog.create("a", dimension=8).ingest([item(str(n), VECTORS[n]) for n in range(3)])
    catalog.create("b", dimension=8).ingest([item(str(n), VECTORS[n]) for n in range(2)])
    yield catalog
    database.close()


EACH = 1 + 2 + 32
"""Bytes of an item of those collections."""


@pytest.mark.parametrize(
    ("quota", "fits", "words"),
    [
        (Quota(collection_items=4), 1, "'a' would have 5 items, and 4 is the most"),
        (Quota(collection_bytes=5 * EACH), 2, f"'a' would take {6 * EACH} bytes, and {5 * EACH} is the most"),
        (Quota(key_items=6), 1, "of this API key would have 7 items, and 6 is the most"),
        (Quota(key_items=4, reached=frozenset({"a", "none"})), 1, "would have 5 items, and 4 is the most"),
        (Quota(key_bytes=7 * EACH), 2, f"would take {8 * EACH} bytes, and {7 * EACH} is the most"),
    ],
    ids=["items", "bytes", "key items", "key items of a", "key bytes"],
)
def test_a_write_that_would_be_too_much_writes_nothing(catalog: Catalog, quota: Quota, fits: int, words: str) -> None:
    collection, terms = catalog.open("a"), Terms(quota=quota)
    with pytest.raises(QuotaExceeded, match=words):
        collection.ingest([item(str(n), VECTORS[n]) for n in range(3, 4 + fits)], terms)
    assert [hit is None for hit in collection.get(["2", "3", "4"])] == [False, True, True]
    assert catalog.describe("a").items == 3
    collection.ingest([item(str(n), VECTORS[n]) for n in range(3, 3 + fits)], terms)
    assert catalog.describe("a").items == 3 + fits
    # what is there may be changed and removed, and what is removed makes room
    collection.ingest([item("0", VECTORS[9])], terms)
    collection.delete(["1"])
    collection.ingest([item("8", VECTORS[8])], terms)
    with pytest.raises(QuotaExceeded):
        collection.ingest([item("9", VECTORS[9])], terms)


def test_metadata_that_grows_counts_as_well(catalog: Catalog) -> None:
    collection, quota = catalog.open("a"), Quota(collection_bytes=3 * EACH + 20)
    with pytest.raises(QuotaExceeded, match="would take"):
        collection.patch("0", {"x": "y" * 20}, 1_000, quota=quota)
    (hit,) = collection.get(["0"])
    assert hit is not None
    assert hit.item.metadata == "{}"
    collection.patch("0", {"x": "y" * 12}, 1_000, quota=quota)


def test_a_lower_limit_than_what_is_there_lets_it_shrink(catalog: Catalog) -> None:
    collection, terms = catalog.open("a"), Terms(quota=Quota(collection_items=1, collection_bytes=1))
    assert collection.ingest([item("0", VECTORS[5])], terms).seq == 4, "it does not grow"
    with pytest.raises(QuotaExceeded):
        collection.ingest([item("0", VECTORS[5], more="x")], terms)
    assert collection.delete(["0"])[1] == {"0"}


def test_only_so_many_collections_are_made(tmp_path: Path) -> None:
    database, _ = catalog_of(tmp_path)
    catalog = Catalog(database, {}, Semaphore(), 1024, None, max_collections=2)
    catalog.create("a", dimension=2)
    catalog.create("b", dimension=2)
    with pytest.raises(QuotaExceeded, match="there are 2 collections, and no more may be made"):
        catalog.create("c", dimension=2)
    catalog.delete("a")
    catalog.create("c", dimension=2)
    assert [one.name for one in catalog.list()] == ["b", "c"]
    database.close()
