"""Codes cut to their first bytes: which are stored, what is measured and found, and what a job cut off leaves."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from models import Codec, Metric, TrainingStopped, Vectors, exact_neighbours, load_codec, recall
from service.codec_spec import codec_spec
from service.collection import Collection
from service.cut import Cut
from service.errors import (
    CodewellError,
    CollectionNotFound,
    Conflict,
    ContractBroken,
    InvalidInput,
    NoPrefixes,
    NotTrained,
    OriginalsDropped,
    TooFewItems,
)
from service.generation import Build
from service.generations import Generations
from service.index.segment import IndexKind
from service.jobs import Jobs
from service.query import Example, Query
from service.rollback import Rollback
from service.search import Plan, Stage
from service.store.tables import CodeRow, CollectionRow, GenerationRow, ItemRow
from service.verification import verify
from tests.conftest import clustered
from tests.test_collection import catalog_of, item

DIM, ITEMS, BYTES, SHORT = 16, 800, 10, 3
VECTORS = clustered(ITEMS + 400, DIM, seed=4)
ASKED = VECTORS[ITEMS + 200 :]
"""Queries that are no items."""
SPEC = {"kind": "residual", "bytes": BYTES, "beam": 4}
OF_FOUR = {"kind": "residual", "steps": 4}


def ignore(_: float, __: str) -> None: ...


class Kept:
    """A collection whose codes have 10 bytes, the last of which is an error byte."""

    def __init__(self, where: str | Path, folder: Path, items: int = ITEMS, **parameters: Any) -> None:
        self.database, catalog = catalog_of(where)
        self.collection: Collection = catalog.create("c", dimension=DIM, metric=Metric.L2, codec=codec_spec(SPEC))
        self.collection.ingest([item(str(row), VECTORS[row]) for row in range(items)])
        build = Build(self.database, self.collection.id, parameters, folder / "scratch", ignore)
        self.whole = int(build.run(10_000, pictures=False)["generation"])

    def cut(self, source: int, size: int = SHORT, report: Callable[[float, str], None] = ignore, **run: Any) -> Any:
        """The result of a job, run here."""
        parameters = {"generation": source, "bytes": size}
        return Cut(self.database, self.collection.id, parameters, report, lambda _: None).run(**run)

    def back(self, to: int, before: int, keep: int = 1) -> None:
        parameters = {"generation": to, "before": before}
        Rollback(self.database, self.collection.id, parameters, ignore, lambda _: None).run(keep)

    def codes(self, generation: int) -> dict[int, bytes]:
        with self.database.reading() as session:
            rows = select(CodeRow.row_id, CodeRow.code).where(CodeRow.generation_id == generation)
            return dict(session.execute(rows.order_by(CodeRow.row_id)).all())

    def decoded(self, generation: int) -> Vectors:
        """Of all items, in the order of their rows."""
        codes = b"".join(self.codes(generation).values())
        codec = self.codec(generation)
        return codec.decode(np.frombuffer(codes, np.uint8).reshape(-1, codec.code_bytes).copy())

    def held_out(self, generation: int) -> NDArray[np.int64]:
        """Numbers of the items, which are their rows but for one."""
        with self.database.reading() as session:
            kept = session.get_one(GenerationRow, generation).held_out
        assert kept is not None
        return np.frombuffer(kept, "<i8").astype(np.int64) - 1

    def newest(self) -> int:
        return Generations(self.database).list("c")[0].id

    def close(self) -> None:
        self.database.close()

    def codec(self, generation: int) -> Codec:
        with self.database.reading() as session:
            return load_codec(session.get_one(GenerationRow, generation).codec)

    def rows(self) -> dict[str, int]:
        with self.database.reading() as session:
            return dict(session.execute(select(ItemRow.item_id, ItemRow.row_id)).all())

    def trains(self) -> dict[str, Any]:
        """What the collection trains where nothing else is asked for."""
        with self.database.reading() as session:
            return dict(session.get_one(CollectionRow, self.collection.id).codec)

    def states(self) -> list[str]:
        """Oldest first."""
        return [generation.state.value for generation in Generations(self.database).list("c")][::-1]

    def found(self, stage: Stage | None = None) -> list[list[tuple[str, float]]]:
        """Ids and scores for every query."""
        self.collection.follow()
        plan = Plan(10, 20, IndexKind.FAISS, stage)
        answers = self.collection.search([Query((Example(vector=row),), plan) for row in ASKED])
        return [[(hit.item.item_id, hit.score) for hit in answer.hits] for answer in answers]


def test_the_first_bytes_are_published_measured_and_searched(database_url: str, tmp_path: Path) -> None:
    kept = Kept(database_url, tmp_path)
    before, codes = Generations(kept.database).published("c"), kept.codes(kept.whole)
    result = kept.cut(kept.whole)
    published = Generations(kept.database).published("c")
    assert (result["generation"], result["before"], kept.states()) == (published.id, kept.whole, ["kept", "published"])
    assert kept.codes(published.id) == {row: code[:SHORT] for row, code in codes.items()}
    assert kept.codes(kept.whole) == codes
    assert kept.trains() == SPEC | {"bytes": SHORT}
    assert list(verify(kept.database)) == []

    decoded = kept.decoded(published.id)
    nearest = exact_neighbours(decoded, ASKED, 10, Metric.L2)
    refined = kept.found(Stage.REFINE)
    found = np.array([[int(hit) for hit, _ in hits] for hits in refined])
    assert recall(found, nearest.rows).mean() > 0.99
    assert [hits[0][1] for hits in refined] == pytest.approx(nearest.scores[:, 0].tolist(), rel=1e-3)
    truth = exact_neighbours(VECTORS[:ITEMS], ASKED, 10, Metric.L2).rows
    rescored = np.array([[int(hit) for hit, _ in hits] for hits in kept.found()])
    assert recall(rescored, truth).mean() > 0.97 > 0.94 > recall(found, truth).mean()

    certificate = published.certificate
    assert certificate == json.loads(json.dumps(result["certificate"]))
    assert (certificate["items"], certificate["queries"], certificate["code_bytes"]) == (ITEMS, 40, SHORT)
    assert certificate["cut_from"] == {"generation": kept.whole, "bytes": BYTES, "codec": SPEC}
    assert (certificate["codec"]["kind"], certificate["codec"]["steps"]) == ("residual", SHORT)
    assert certificate["trained_on"] == before.certificate["trained_on"]
    held_out = kept.held_out(published.id)
    assert held_out.tolist() == kept.held_out(kept.whole).tolist()
    others = np.setdiff1d(np.arange(ITEMS), held_out)
    asked = VECTORS[held_out]
    shares = [exact_neighbours(base[others], asked, 10, Metric.L2).rows for base in (decoded, VECTORS[:ITEMS])]
    assert certificate["recall@10"]["faiss"]["refine"] == pytest.approx(float(recall(*shares).mean()), abs=0.005)
    assert certificate["recall@10"]["faiss"]["refine"] < before.certificate["recall@10"]["faiss"]["refine"]
    assert certificate["disk_bytes"] == {"code": SHORT, "original": 4 * DIM}
    for index in ("faiss", "buckets"):
        assert certificate["total_bytes"][index] < before.certificate["total_bytes"][index] - (BYTES - SHORT)
    assert certificate["codec_ram_bytes"] < 0.7 * before.certificate["codec_ram_bytes"]
    kept.close()


def test_a_rollback_brings_back_the_longer_codes_and_what_the_collection_trains(
    database_url: str, tmp_path: Path
) -> None:
    kept = Kept(database_url, tmp_path)
    before = kept.found(Stage.REFINE)
    short = kept.cut(kept.whole)["generation"]
    after = kept.found(Stage.REFINE)
    assert after != before
    kept.collection.ingest([item(f"new{row}", VECTORS[ITEMS + row]) for row in range(50)])
    new = [row for item_id, row in kept.rows().items() if item_id.startswith("new")]
    own = kept.codec(short).encode(VECTORS[ITEMS : ITEMS + 50])
    assert [kept.codes(short)[row] for row in sorted(new)] == [code.tobytes() for code in own]
    first = kept.codec(kept.whole).encode(VECTORS[ITEMS : ITEMS + 50])[:, :SHORT]
    assert (own == first).all(axis=1).mean() > 0.5, "hardly a code of a new item is what it would have been"
    assert list(verify(kept.database)) == []

    kept.back(kept.whole, short)
    assert (kept.states(), kept.trains()) == (["published", "kept"], SPEC)
    assert set(kept.codes(kept.whole)) == set(kept.rows().values())
    assert list(verify(kept.database)) == []
    kept.back(short, kept.whole)
    assert (kept.states(), kept.trains()) == (["kept", "published"], SPEC | {"bytes": SHORT})
    assert list(verify(kept.database)) == []
    shortest = kept.cut(short, 1, keep=2)
    assert shortest["certificate"]["cut_from"] == {
        "generation": short,
        "bytes": SHORT,
        "codec": SPEC | {"bytes": SHORT},
    }
    assert kept.codes(shortest["generation"]) == {row: code[:1] for row, code in kept.codes(short).items()}
    assert list(verify(kept.database)) == []
    kept.back(kept.whole, shortest["generation"], keep=2)
    assert (kept.states(), kept.trains()) == (["published", "kept", "kept"], SPEC)
    kept.collection.delete([f"new{row}" for row in range(50)])
    assert kept.found(Stage.REFINE) == before
    kept.close()


def test_cut_codes_have_an_error_byte_of_their_own(database_url: str, tmp_path: Path) -> None:
    kept = Kept(database_url, tmp_path)
    generations = [kept.whole]
    for size in (9, 8):
        before = kept.codes(generations[-1])
        generations.append(kept.cut(generations[-1], size, keep=3)["generation"])
        cut = kept.codes(generations[-1])
        assert {row: code[:-1] for row, code in cut.items()} == {row: before[row][: size - 1] for row in cut}
        codec = kept.codec(generations[-1])
        codes = np.frombuffer(b"".join(cut[row] for row in range(1, ITEMS + 1)), np.uint8).reshape(ITEMS, size)
        told, errors = codec.errors(codes), np.square(VECTORS[:ITEMS] - codec.decode(codes)).sum(axis=1)
        assert told is not None
        assert np.corrcoef(told, errors)[0, 1] > 0.8
        kept.collection.ingest([item(f"after-{size}-{row}", VECTORS[ITEMS + row]) for row in range(20)])
        assert list(verify(kept.database)) == []
    kept.back(kept.whole, generations[-1], keep=3)
    assert list(verify(kept.database)) == []
    kept.close()


def test_what_comes_and_goes_meanwhile_has_its_code(database_url: str, tmp_path: Path) -> None:
    kept = Kept(database_url, tmp_path)
    said: list[str] = []

    def meanwhile(_: float, doing: str) -> None:
        if doing in ("reading codes", "measuring recall", "publishing"):
            at = len(said)
            kept.collection.ingest([item(f"new{at}", VECTORS[ITEMS + at]), item(str(at), VECTORS[ITEMS + 10 + at])])
            kept.collection.delete([str(100 + at)])
            said.append(doing)

    result = kept.cut(kept.whole, report=meanwhile)
    assert said == ["reading codes", "measuring recall", "publishing"]
    short = result["generation"]
    assert kept.codes(short) == {row: code[:SHORT] for row, code in kept.codes(kept.whole).items()}
    assert set(kept.codes(short)) == set(kept.rows().values())
    assert len(kept.rows()) == ITEMS
    assert list(verify(kept.database)) == []
    kept.collection.follow()
    for at in range(3):
        for row, wanted in ((ITEMS + at, f"new{at}"), (ITEMS + 10 + at, str(at))):
            query = Query((Example(vector=VECTORS[row]),), Plan(1, 50, IndexKind.FAISS, None))
            (answer,) = kept.collection.search([query])
            assert ([hit.item.item_id for hit in answer.hits], answer.generation) == ([wanted], short)
    kept.close()


def test_a_cut_below_its_contract_is_not_published(database_url: str, tmp_path: Path) -> None:
    kept = Kept(database_url, tmp_path, contract={"recall@10": 0.9, "max_bytes": BYTES})
    before, codes = kept.found(), kept.codes(kept.whole)
    with pytest.raises(ContractBroken, match="nothing was published: recall@10 is") as refused:
        kept.cut(kept.whole, 1, most_oversample=1)
    certificate = refused.value.result["certificate"]
    figures = certificate["intervals"]["recall@10"]
    assert figures["low"] < 0.9
    assert f"is {figures['value']:.4f} on 80 queries" in refused.value.detail
    assert "codes of more than 1 bytes" in refused.value.detail
    assert "seed" not in refused.value.detail
    assert certificate["contract"] == {"recall@10": 0.9, "max_bytes": BYTES}, "that of the published codes"
    assert (kept.states(), kept.trains()) == (["published", "refused"], SPEC)
    assert Generations(kept.database).list("c")[0].certificate == json.loads(json.dumps(certificate))
    assert kept.codes(refused.value.result["generation"]) == {}
    assert (kept.codes(kept.whole), kept.found()) == (codes, before)
    assert list(verify(kept.database)) == []
    tuned = kept.cut(kept.whole, 1)["certificate"]
    assert tuned["intervals"]["recall@10"]["low"] >= 0.9
    assert (tuned["queries"], tuned["tuned_on"], tuned["oversample"] > 1) == (80, 80, True)
    kept.close()


def test_a_cut_that_stops_anywhere_leaves_what_was_published_and_begins_anew(tmp_path: Path) -> None:
    kept = Kept(tmp_path, tmp_path)
    before, codes = kept.found(), kept.codes(kept.whole)
    said: list[str] = []
    kept.cut(kept.whole, report=lambda _, doing: said.append(doing))
    steps = [doing.partition(":")[0] for doing in said]
    assert steps == ["reading codes", "cutting", "measuring recall", "publishing"]
    kept.back(kept.whole, kept.newest())
    for at in range(len(steps)):
        with pytest.raises(TrainingStopped):
            kept.cut(kept.whole, report=stopping_at(at))
        assert (kept.found(), kept.codes(kept.whole), kept.trains()) == (before, codes, SPEC)
        assert list(verify(kept.database)) == []
    result = kept.cut(kept.whole)
    assert kept.codes(result["generation"]) == {row: code[:SHORT] for row, code in codes.items()}
    assert kept.cut(kept.whole)["certificate"] == Generations(kept.database).published("c").certificate
    assert kept.newest() == result["generation"], "cut off after it had swapped"
    with kept.database.reading() as session:
        coded = set(session.scalars(select(CodeRow.generation_id).distinct()))
    assert coded == {kept.whole, result["generation"]}
    kept.close()


def stopping_at(step: int) -> Callable[[float, str], None]:
    calls = iter(range(100))

    def report(_: float, __: str) -> None:
        if next(calls) == step:
            raise TrainingStopped

    return report


def test_items_that_came_later_are_asked_for_where_held_out_ones_are_gone(tmp_path: Path) -> None:
    kept = Kept(tmp_path, tmp_path, items=200)
    known = kept.held_out(kept.whole)
    kept.collection.delete([str(row) for row in known])
    with pytest.raises(
        TooFewItems, match="0 of the items that the codec was not trained on are left, and 5 are needed"
    ):
        kept.cut(kept.whole)
    assert kept.states() == ["published"]
    kept.collection.ingest([item(f"new{row}", VECTORS[ITEMS + row]) for row in range(20)])
    certificate = kept.cut(kept.whole)["certificate"]
    assert (certificate["queries"], certificate["items"]) == (10, 210)
    newest = sorted(row for item_id, row in kept.rows().items() if item_id.startswith("new"))[-10:]
    assert (kept.held_out(kept.newest()) + 1).tolist() == newest
    kept.collection.delete([str(row) for row in range(150)])
    with pytest.raises(TooFewItems, match="a cut needs 100"):
        kept.cut(kept.newest(), 1)
    kept.close()


@pytest.mark.parametrize(
    ("codec", "certified", "size", "error", "field", "said"),
    [
        ({}, None, 2, NotTrained, "codec", "no codec yet: train one"),
        (
            {},
            {"kind": "binary", "bits": 32},
            2,
            NoPrefixes,
            "codec.kind",
            "residual, and faiss",
        ),
        ({}, {"kind": "faiss", "factory": "OPQ4_8,PQ4x8"}, 2, NoPrefixes, "codec.kind", "are of the kind faiss"),
        ({"kind": "auto"}, OF_FOUR, 2, Conflict, "codec.kind", '"max_bytes" is 2'),
        (
            {},
            OF_FOUR,
            4,
            InvalidInput,
            "codec.bytes",
            "have 4 bytes, which can be cut to 1 to 3; for longer ones train",
        ),
        ({}, OF_FOUR, 9, InvalidInput, "codec.bytes", "for longer ones train again"),
    ],
)
def test_what_cannot_be_cut_is_refused_by_name(
    tmp_path: Path,
    codec: dict[str, Any],
    certified: dict[str, Any] | None,
    size: int,
    error: type[CodewellError],
    field: str,
    said: str,
) -> None:
    database, catalog = catalog_of(tmp_path)
    catalog.create("c", dimension=DIM)
    with database.writing() as session:
        row = session.scalars(select(CollectionRow)).one()
        row.codec, row.row_count = codec, 1_000
        if certified is not None:
            certificate = {"codec": certified, "code_bytes": 4}
            made = GenerationRow(collection_id=row.id, state="published", codec=b"", fingerprint="", created_at=0.0)
            made.certificate = certificate
            session.add(made)
            session.flush()
            row.generation_id = made.id
    with pytest.raises(error, match=re.escape(said)) as refused:
        Jobs(database).submit_cut("c", size)
    assert (type(refused.value), refused.value.field) == (error, field)
    assert Jobs(database).list() == []
    database.close()


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"originals": "drop"}, OriginalsDropped, "nobody can measure what the cut codes keep"),
        ({"row_count": 99}, TooFewItems, "has 99 items; a cut needs 100"),
    ],
)
def test_what_cannot_be_measured_is_not_cut(
    tmp_path: Path, changed: dict[str, Any], error: type[CodewellError], said: str
) -> None:
    kept = Kept(tmp_path, tmp_path, items=150)
    with kept.database.writing() as session:
        row = session.get_one(CollectionRow, kept.collection.id)
        for name, value in changed.items():
            setattr(row, name, value)
    with pytest.raises(error, match=said):
        Jobs(kept.database).submit_cut("c", SHORT)
    kept.close()


def test_a_cut_and_a_training_are_one_after_the_other(tmp_path: Path) -> None:
    kept = Kept(tmp_path, tmp_path, items=150)
    jobs = Jobs(kept.database)
    job = jobs.submit_cut("c", SHORT)
    assert (job.kind, job.parameters) == ("cut", {"generation": kept.whole, "bytes": SHORT})
    for submit in (partial(jobs.submit_cut, "c", 2), partial(jobs.submit, "c", "train", {})):
        with pytest.raises(Conflict, match=f"job {job.id} is under way"):
            submit()
    jobs.cancel(job.id)
    assert jobs.submit_cut("c", 2).parameters["bytes"] == 2
    with pytest.raises(CollectionNotFound):
        jobs.submit_cut("none", 2)
    kept.close()
