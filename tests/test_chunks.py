"""Items that are cut into chunks, over a real SQLite file or PostgreSQL, equal a dict that is searched exactly."""

import random
from dataclasses import replace
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import pytest

from models import SparseCodec
from service.backup import back_up, restore_file
from service.catalog import Catalog
from service.collection import Collection
from service.errors import BatchRejected, LimitExceeded, QuotaExceeded
from service.export import export
from service.filter import Every, parsed
from service.generation import Build
from service.index.chunks import ChunkView
from service.index.segment import IndexKind
from service.index.text import Ranked
from service.item import NewItem
from service.originals import Originals
from service.query import Example, Hit, Mode, Query
from service.quota import Quota
from service.receipt import ItemStatus
from service.rollback import Rollback
from service.search import Plan, Stage
from service.span import Span
from service.store import schema, store
from service.store.database import Database
from service.terms import Terms
from service.text.chunking import Chunking
from service.text.tfidf import TfidfEncoder
from service.upload import Source
from service.verification import verify
from tests.test_export import lines

CHUNKING = Chunking(tokens=6, overlap=2)
ENCODER = TfidfEncoder(64)
WORDS = [
    f"{first}{second}" for first in ("gran", "ott", "viol", "sand") for second in ("ite", "er", "in", "stone", "y")
]
TINY = {"codec": {"bytes": 16, "decoder_hidden": []}, "training": {"epochs": 1}}


def opened(url: str, **limits: Any) -> tuple[Database, Catalog]:
    database = Database(url)
    schema.upgrade(database)
    return database, Catalog(database, {"tfidf": ENCODER}, Semaphore(), 1024, "tfidf", **limits)


def written(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def cut(text: str) -> list[Span]:
    return CHUNKING.chunks(text, ENCODER.spans(text))


def document(item_id: str, text: str) -> NewItem:
    return NewItem(item_id, text, None, {"group": len(text) % 3})


def ask(collection: Collection, text: str, k: int, kind: IndexKind = IndexKind.FAISS, **more: Any) -> list[Hit]:
    plan = Plan(k, more.pop("oversample", 1), kind, more.pop("stage", None))
    (answer,) = collection.search([Query((Example(text),), plan, text=text, **more)])
    assert answer.partial_reason is None
    return answer.hits


def check(collection: Collection, texts: dict[str, str], query: str, k: int, **more: Any) -> None:
    """The k best documents are those of the definition, each by its best chunk."""
    point = ENCODER.encode([query]).vectors[0]
    best: dict[str, dict[Span, float]] = {}
    for item_id, text in texts.items():
        spans = cut(text)
        scores = ENCODER.encode([text[slice(*span)] for span in spans]).vectors @ point
        best[item_id] = dict(zip(spans, scores.tolist(), strict=True))
    hits = ask(collection, query, k, **more)
    expected = sorted((max(scores.values()) for scores in best.values()), reverse=True)[:k]
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)
    assert len({hit.item.item_id for hit in hits}) == len(hits)
    for hit in hits:
        own = best[hit.item.item_id]
        assert hit.chunk is not None
        assert hit.score == pytest.approx(max(own.values()), abs=1e-5)
        assert own[hit.chunk] == pytest.approx(hit.score, abs=1e-5)
        assert hit.passage == texts[hit.item.item_id][slice(*hit.chunk)]


def test_any_writes_here_and_where_they_are_followed(database_url: str) -> None:
    rng = random.Random(7)
    database, catalog = opened(database_url)
    writer = catalog.create("c", encoder="tfidf", chunking=CHUNKING)
    other, follower = opened(database_url)
    reader = follower.open("c")
    texts: dict[str, str] = {}
    seq = 0
    for turn in range(28):
        names = rng.sample("abcdefghij", 3)
        sizes = {name: len(cut(text)) for name, text in texts.items()}
        if turn % 4 == 3:
            after, deleted = writer.delete(names)
            assert deleted == names & texts.keys()
            seq += sum(sizes[name] for name in deleted)
            texts = {name: text for name, text in texts.items() if name not in deleted}
        else:
            batch = {name: written(rng, rng.choice((1, 5, 6, 7, 40, 200))) for name in names}
            after = writer.ingest([document(*pair) for pair in batch.items()]).seq
            texts |= batch
            for name, text in batch.items():  # a row comes, goes or is replaced by each change
                seq += max(sizes.get(name, 0), len(cut(text)))
        assert after == seq
        for collection in (writer, reader):
            collection.follow()
            kind = rng.choice((IndexKind.FAISS, IndexKind.EXACT))
            check(collection, texts, written(rng, 3), rng.randint(1, 10), kind=kind)
    group = {name: text for name, text in texts.items() if len(text) % 3 == 1}
    assert 0 < len(group) < len(texts)
    for collection in (writer, reader):
        assert [collection.count(wanted) for wanted in (Every(), parsed({"group": 1}))] == [len(texts), len(group)]
        check(collection, group, written(rng, 3), 10, filter=parsed({"group": 1}))
        check(collection, texts, written(rng, 3), 10, oversample=10)
    told = catalog.describe("c")
    rows = {name: cut(text) for name, text in texts.items()}
    assert (told.items, told.chunks) == (len(texts), sum(map(len, rows.values())))
    hits = writer.get(sorted(texts), vectors=True)
    for name, hit in zip(sorted(texts), hits, strict=True):
        assert hit is not None
        assert hit.item.spans == rows[name]
        parts = [texts[name][slice(*span)] for span in rows[name]]
        assert hit.vector == pytest.approx(ENCODER.encode(parts).vectors.mean(axis=0), abs=1e-6)
    first = writer.delete_chosen(parsed({"group": 1}))
    assert first == (seq + sum(len(rows[name]) for name in group), len(group))
    assert list(verify(database)) == []
    for one in (database, other):
        one.close()


def test_codecs_over_chunks(database_url: str, tmp_path: Path) -> None:
    rng = random.Random(8)
    database, catalog = opened(database_url)
    collection = catalog.create("c", encoder="tfidf", chunking=CHUNKING)
    texts = {f"d{n}": written(rng, rng.choice((5, 60))) for n in range(40)} | {"big": "granite " * 400}
    collection.ingest([document(*pair) for pair in texts.items()])

    def build(parameters: dict[str, Any], scratch: str) -> int:
        build = Build(database, collection.id, parameters, tmp_path / scratch, lambda *_: None)
        return int(build.run(10_000)["generation"])

    first, second = build(TINY, "first"), build(TINY, "second")
    for turn in range(2):
        collection.follow()
        for kind in IndexKind:  # 100 chunks of `big` are the nearest
            check(collection, texts, "granite", 41, kind=kind)
            assert ask(collection, "granite", 1, kind)[0].item.item_id == "big"
        assert len(ask(collection, "granite", 41, stage=Stage.SHORTLIST)) == 41
        diverse = ask(collection, "granite", 5, diversity=0.9, oversample=10)
        assert len({hit.item.item_id for hit in diverse}) == 5
        groups = ask(collection, "granite sandy", 3, group_by="group", oversample=10)
        assert sorted(hit.group for hit in groups) == [0, 1, 2]
        hybrid = ask(collection, "granite", 41, mode=Mode.HYBRID)
        assert (hybrid[0].item.item_id, len({hit.item.item_id for hit in hybrid})) == ("big", 41)
        if turn == 0:
            texts["late"] = written(rng, 50)
            collection.ingest([document("late", texts.pop("late")), document("d0", texts["d0"] + " sandy")])
            texts["d0"] += " sandy"
            collection.delete(["late"])
            way = {"generation": first, "before": second}
            Rollback(database, collection.id, way, lambda *_: None, lambda _: None).run(1)
    assert collection.follower.view().generation_id == first
    assert list(verify(database)) == []
    sparse = {"codec": {"kind": "sparse", "latents": 32, "k": 2}, "training": {"epochs": 1}}
    build(sparse, "sparse")
    collection.follow()
    view, chunks = collection.follower.view(), collection._chunk_view(0)
    assert isinstance(view.codec, SparseCodec)
    assert chunks is not None
    rows = view.live_rows()
    indices, values = view.codec.pairs(view.codes_of(rows))
    active = {
        (owner, latent)
        for owner, latents, there in zip(chunks.items_of(rows).tolist(), indices, values > 0, strict=True)
        for latent in latents[there].tolist()
    }
    listed = {one.latent: one.items for one in collection.commonest_latents(Every(), 32)}
    assert listed == {latent: sum(other == latent for _, other in active) for _, latent in active}
    assert max(listed.values()) <= 41
    why = ask(collection, "granite", 3, explain=True, stage=Stage.REFINE)
    for hit in why:
        assert hit.explanation is not None
        assert hit.explanation.score == pytest.approx(hit.score, abs=1e-4)
    database.close()


def test_what_is_kept_comes_back(database_url: str, tmp_path: Path) -> None:
    rng = random.Random(9)
    database, catalog = opened(database_url)
    collection = catalog.create("c", encoder="tfidf", chunking=CHUNKING, originals=Originals.DROP)
    texts = {f"d{n}": written(rng, 30) for n in range(20)}
    collection.ingest([document(*pair) for pair in texts.items()])
    Build(database, collection.id, TINY, tmp_path / "scratch", lambda *_: None).run(10_000)
    collection.follow()
    collection.ingest([document("d1", "sandy otter")])
    texts["d1"] = "sandy otter"
    assert {hit.item.item_id for hit in ask(collection, "granite", 20)} == texts.keys()
    like = collection.search([Query((Example(id="d2"),), Plan(3, 10, IndexKind.FAISS, None))])[0].hits
    assert "d2" not in {hit.item.item_id for hit in like}
    back_up(database, tmp_path / "backup")
    place = tmp_path / "restored.db"
    restore_file(tmp_path / "backup", place, tmp_path / "lock")
    restored, again = opened(f"sqlite:///{place}")
    both = [
        [(hit.item.item_id, hit.score, hit.chunk) for hit in ask(one, "granite", 5)]
        for one in (collection, again.open("c"))
    ]
    assert both[0] == both[1]
    assert list(verify(restored)) == list(verify(database)) == []

    assert export(database, "c", tmp_path / "c.ndjson") == (20, store_seq(database))
    given = lines(tmp_path / "c.ndjson")
    assert {one["id"]: one["text"] for one in given} == texts
    assert {"vector"} & set().union(*given) == set()
    export(database, "c", tmp_path / "c.parquet")
    assert [line.item for line in Source(tmp_path / "c.parquet").lines()] == given
    copy = again.create("copy", encoder="tfidf", chunking=CHUNKING)
    copy.ingest([NewItem(one["id"], one["text"], None, one["metadata"]) for one in given])
    check(copy, texts, "granite", 20)
    for one in (database, restored):
        one.close()


def store_seq(database: Database) -> int:
    with database.reading() as session:
        return store.found_collection(session, "c").seq


def test_limits(tmp_path: Path) -> None:
    database, catalog = opened(f"sqlite:///{tmp_path / 'codewell.db'}", max_chunks=10)
    collection = catalog.create("c", encoder="tfidf", chunking=CHUNKING)
    long, short = "sandy " * 30, "sandy " * 18
    receipt = collection.ingest([document("a", short), document("b", long), document("c", short)])
    assert [result.status for result in receipt.results] == [
        ItemStatus.INSERTED,
        ItemStatus.REJECTED,
        ItemStatus.INSERTED,
    ]
    refused = receipt.results[1].error
    assert isinstance(refused, LimitExceeded)
    assert (refused.field, refused.members) == ("items[1].text", {"limit": 10, "setting": "CODEWELL_MAX_CHUNKS"})
    assert "of 7 chunks" in refused.detail
    with pytest.raises(BatchRejected, match="atomic"):
        collection.ingest([document("d", "sandy"), document("e", long * 9)], Terms(atomic=True))
    vector = replace(document("f", "sandy"), vector=np.ones(64, np.float32))
    assert collection.ingest([vector]).results[0].status is ItemStatus.REJECTED
    with pytest.raises(QuotaExceeded):  # a document is an item, and its bytes are those of all its vectors
        collection.ingest([document("g", short)], Terms(quota=Quota(collection_bytes=5 * 4 * 64 + 400)))
    collection.ingest([document("g", "sandy")], Terms(quota=Quota(collection_items=3)))
    assert {hit.item.item_id for hit in ask(collection, "sandy", 9)} == {"a", "c", "g"}
    assert list(verify(database)) == []
    database.close()


def test_a_view_of_nothing_long() -> None:
    empty = np.empty(0, np.int64)
    view = ChunkView(0, empty, empty)
    rows = np.array([5, 3, 5], np.int64)
    assert view.items_of(rows).tolist() == view.rows_of(rows).tolist() == [5, 3, 5]
    longer = view.applied(9, np.array([3, 7], np.int64), np.array([3, 2], np.int64), empty)
    assert longer.items_of(np.array([2, 3, 5, 6, 7, 8, 9, -1], np.int64)).tolist() == [2, 3, 3, 6, 7, 7, 9, -1]
    assert longer.rows_of(np.array([7, 6, 3], np.int64)).tolist() == [7, 8, 6, 3, 4, 5]
    rolled = longer.rolled(Ranked(np.array([5, 8, 3, 6], np.int64), np.array([4, 3, 2, 1], np.float32)))
    assert (rolled.items.rows.tolist(), rolled.items.scores.tolist()) == ([3, 7, 6], [4, 3, 1])
    assert rolled.chunks.tolist() == [5, 8, 6]
    shorter = longer.applied(12, empty, empty, np.array([3, 4, 5], np.int64))
    assert (shorter.items.tolist(), shorter.items_of(np.array([4], np.int64)).tolist()) == ([7], [4])
