"""Contracts: what is measured, tuned, certified and refused, and the way back to a codec that was published before."""

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from models import Metric, TrainingStopped, estimated, exact_neighbours, recall
from service.codec_spec import codec_spec
from service.collection import Collection
from service.contract import ContractSpec
from service.errors import ContractBroken, InvalidInput, NotKept
from service.generation import Build
from service.generations import Generations
from service.index.segment import IndexKind
from service.originals import Originals
from service.query import Example, Query
from service.rollback import Rollback
from service.search import OVERSAMPLE, Plan
from service.store.database import Database
from service.store.tables import CodeRow, CollectionRow
from service.verification import verify
from tests.conftest import clustered
from tests.test_collection import catalog_of, item

DIM, ITEMS = 16, 1_200
VECTORS = clustered(ITEMS + 2_000, DIM, seed=8)
ASKED = VECTORS[ITEMS + 1_000 :]
"""Queries that are no items."""
TINY = {"codec": {"bytes": 3, "decoder_hidden": []}, "training": {"epochs": 1}}


def ignore(_: float, __: str) -> None: ...


def spec(**conditions: float) -> ContractSpec:
    return ContractSpec.model_validate({name.replace("_at_", "@"): value for name, value in conditions.items()})


def filled(where: Path | str, items: int = ITEMS, **settings: Any) -> tuple[Database, Collection]:
    database, catalog = catalog_of(where)
    collection = catalog.create("c", dimension=DIM, metric=Metric.L2, **settings)
    collection.ingest([item(str(row), VECTORS[row]) for row in range(items)])
    return database, collection


def trained(collection: Collection, database: Database, folder: Path, **parameters: Any) -> dict[str, Any]:
    most = parameters.pop("most_oversample", 100)
    build = Build(database, collection.id, TINY | parameters, folder / uuid.uuid4().hex, ignore)
    return build.run(10_000, most_oversample=most)


def back(collection: Collection, database: Database, to: int, before: int) -> dict[str, Any]:
    parameters = {"generation": to, "before": before}
    return Rollback(database, collection.id, parameters, ignore, lambda _: None).run(1)


def asked(collection: Collection, k: int = 10) -> list[list[tuple[str, float]]]:
    """Ids and scores of the default search, for every query."""
    collection.follow()
    queries = [Query((Example(vector=row),), Plan(k, OVERSAMPLE, IndexKind.FAISS, None), tuned=True) for row in ASKED]
    answers = collection.search(queries)
    assert {answer.partial_reason for answer in answers} == {None}
    return [[(hit.item.item_id, hit.score) for hit in answer.hits] for answer in answers]


def codes(database: Database) -> dict[int, int]:
    with database.reading() as session:
        counted = select(CodeRow.generation_id, func.count()).group_by(CodeRow.generation_id)
        return dict(session.execute(counted).all())


def states(database: Database) -> list[str]:
    """Oldest first."""
    return [generation.state.value for generation in Generations(database).list("c")][::-1]


# what can be asked for


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "at least one"),
        ({"recall@10": 1}, "less than 1"),
        ({"recall@10": 0}, "greater than 0"),
        ({"recall@5": 0.9}, "Extra inputs"),
        ({"recall@1": 0.9, "max_bytes": 0}, "greater than or equal to 1"),
    ],
)
def test_what_is_no_contract_is_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ContractSpec.model_validate(given)


@pytest.mark.parametrize(
    ("codec", "took"),
    [
        ({"bytes": 6}, 6),
        ({"latents": 9, "latent_type": "int4"}, 5),
        ({"kind": "variational", "bytes": 8}, 8),
        ({"kind": "sparse", "bytes": 8}, 6),
        ({"kind": "binary", "bytes": 7}, 7),
        ({"kind": "residual", "bytes": 3}, 3),
    ],
)
def test_codes_too_long_are_refused_before_they_are_trained(codec: dict[str, Any], took: int) -> None:
    config = codec_spec(codec).config(DIM, Metric.COSINE)
    ContractSpec(max_bytes=took).check(config, DIM)
    with pytest.raises(InvalidInput, match=f'take {took} bytes .* allows {took - 1}: .*"bytes": {took - 1}') as refused:
        ContractSpec(max_bytes=took - 1).check(config, DIM)
    assert refused.value.field == "contract.max_bytes"


# tuned, certified, published


def test_the_cheapest_oversample_that_is_enough_is_certified_and_searched_with(tmp_path: Path) -> None:
    database, collection = filled(tmp_path)
    asks = {"recall@10": 0.85, "recall@1": 0.7, "max_bytes": 3}
    # The 120 queries that seed 0 certifies by happen to be harder than most.
    training = {"epochs": 1, "seed": 1}
    certificate = trained(collection, database, tmp_path, contract=asks, training=training)["certificate"]
    assert (certificate["tuned_on"], certificate["queries"], certificate["items"]) == (120, 120, ITEMS)
    assert (certificate["contract"], certificate["code_bytes"]) == (asks, 3)

    def enough(setting: dict[str, Any]) -> bool:
        of = ((setting[name], asks[name]) for name in ("recall@10", "recall@1"))
        return all(2 * one["low"] - one["value"] >= least for one, least in of)

    *less, last = certificate["tuning"]
    assert less, "an oversample of 1 was enough: the test shows nothing"
    assert [enough(setting) for setting in (*less, last)] == [False] * len(less) + [True]
    assert certificate["oversample"] == last["oversample"]
    for name in ("recall@10", "recall@1"):
        assert certificate["intervals"][name]["low"] >= asks[name]

    truth = exact_neighbours(VECTORS[:ITEMS], ASKED, 10, Metric.L2).rows
    for k in (1, 10):
        found = np.array([[int(item_id) for item_id, _ in hits] for hits in asked(collection, k)])
        fresh, certified = estimated(recall(found, truth[:, :k])), certificate["intervals"][f"recall@{k}"]
        assert fresh.low <= certified["high"]
        assert certified["low"] <= fresh.high
    (answer,) = collection.search([Query((Example(vector=ASKED[0]),), Plan(7, 10, IndexKind.FAISS, None), tuned=True)])
    assert answer.profile is not None
    assert answer.profile.counts["shortlist"] == 7 * certificate["oversample"]
    assert answer.profile.counts["originals"] == 7 * certificate["oversample"]
    database.close()


def test_without_a_contract_nothing_is_tuned(tmp_path: Path) -> None:
    database, collection = filled(tmp_path)
    certificate = trained(collection, database, tmp_path)["certificate"]
    assert (certificate["queries"], certificate["oversample"], "contract" in certificate) == (60, OVERSAMPLE, False)
    assert certificate["intervals"]["recall@10"]["value"] == certificate["recall@10"]["faiss"]["rescore"]
    assert list(certificate["intervals"]) == ["recall@1", "recall@10", "recall@100"]
    database.close()


def test_a_codec_below_its_contract_is_not_published(database_url: str, tmp_path: Path) -> None:
    contract = spec(recall_at_10=0.98)
    database, collection = filled(database_url, contract=contract)
    first = trained(collection, database, tmp_path, contract={"recall@1": 0.1})
    before = asked(collection)
    with pytest.raises(ContractBroken) as refused:
        trained(collection, database, tmp_path, most_oversample=2)
    certificate = refused.value.result["certificate"]
    figures = certificate["intervals"]["recall@10"]
    assert figures["low"] < figures["value"] < 0.98
    assert (certificate["oversample"], certificate["contract"]) == (2, {"recall@10": 0.98})
    said = refused.value.detail
    assert f"recall@10 is {figures['value']:.4f} on 120 queries" in said
    for remedy in ("codes of more than 3 bytes", "an oversample above 2, the most that CODEWELL_MAX_OVERSAMPLE allows"):
        assert remedy in said
    assert states(database) == ["published", "refused"]
    assert Generations(database).list("c")[0].certificate == json.loads(json.dumps(certificate))
    assert codes(database) == {first["generation"]: ITEMS}
    assert asked(collection) == before
    assert Generations(database).published("c").id == first["generation"]
    with pytest.raises(ContractBroken, match="it is the interval that is too wide"):
        trained(collection, database, tmp_path, contract={"recall@10": 0.97}, codec={"bytes": 64, "decoder_hidden": []})
    database.close()


def test_what_would_meet_it_where_originals_are_dropped(tmp_path: Path) -> None:
    database, collection = filled(tmp_path, originals=Originals.DROP)
    with pytest.raises(ContractBroken, match="keeping originals: rescored by them recall@10 is") as refused:
        trained(collection, database, tmp_path, contract={"recall@10": 0.9})
    certificate = refused.value.result["certificate"]
    assert (certificate["stage"], list(certificate["recall@10"]["faiss"])) == ("refine", ["refine"])
    assert certificate["with_originals"]["recall@10"]["low"] >= 0.9 > certificate["intervals"]["recall@10"]["value"]
    assert len(asked(collection)) == len(ASKED)
    assert list(verify(database)) == [], "no vector was dropped"
    published = trained(collection, database, tmp_path, contract={"recall@10": 0.2})["certificate"]
    assert published["intervals"]["recall@10"]["low"] >= 0.2
    database.close()


def test_what_cannot_be_measured_is_not_promised(tmp_path: Path) -> None:
    database, collection = filled(tmp_path, items=150)
    with pytest.raises(ContractBroken, match=r"recall@100 cannot be measured .* more items, 200 at least"):
        trained(collection, database, tmp_path, contract={"recall@100": 0.5})
    database.close()


# the way back


def test_a_rollback_restores_the_answers_and_has_what_came_since(database_url: str, tmp_path: Path) -> None:
    database, collection = filled(database_url)
    first = trained(collection, database, tmp_path, contract={"recall@10": 0.5})["generation"]
    before = asked(collection)
    second = trained(collection, database, tmp_path, codec={"bytes": 2, "decoder_hidden": []})["generation"]
    assert asked(collection) != before
    assert codes(database) == {first: ITEMS, second: ITEMS}
    result = back(collection, database, first, second)
    assert (result["generation"], result["before"], states(database)) == (first, second, ["published", "kept"])
    assert asked(collection) == before

    collection.ingest([item(str(row), VECTORS[row]) for row in range(ITEMS, ITEMS + 50)])
    collection.ingest([item("7", VECTORS[ITEMS + 60])])
    collection.delete(["8"])
    assert codes(database) == {first: ITEMS + 49, second: ITEMS - 2}
    back(collection, database, second, first)
    assert list(verify(database)) == []
    assert asked(collection)
    for row, found in ((ITEMS + 3, str(ITEMS + 3)), (ITEMS + 60, "7")):
        (answer,) = collection.search([Query((Example(vector=VECTORS[row]),), Plan(1, 50, IndexKind.FAISS, None))])
        assert ([hit.item.item_id for hit in answer.hits], answer.generation) == ([found], second)
    assert codes(database) == {first: ITEMS + 49, second: ITEMS + 49}
    database.close()


def test_a_rollback_that_is_cut_off_leaves_what_was_published(tmp_path: Path) -> None:
    database, collection = filled(tmp_path)
    first = trained(collection, database, tmp_path)["generation"]
    second = trained(collection, database, tmp_path, training={"epochs": 2})["generation"]
    collection.ingest([item("late", VECTORS[ITEMS])])
    before = asked(collection)
    parameters = {"generation": first, "before": second}

    def stop(*_: object) -> None:
        raise TrainingStopped

    for report, fence in ((stop, lambda _: None), (ignore, stop)):
        with pytest.raises(TrainingStopped):
            Rollback(database, collection.id, parameters, report, fence).run(1)
        assert (asked(collection), Generations(database).published("c").id) == (before, second)
        assert list(verify(database)) == []
    assert back(collection, database, first, second)["generation"] == first
    assert back(collection, database, first, second)["generation"] == first, "cut off after it had swapped"
    assert list(verify(database)) == []
    assert codes(database) == {first: ITEMS + 1, second: ITEMS + 1}
    with database.writing() as session:
        row = session.get_one(CollectionRow, collection.id)
        assert row.generation_id == first
    third = trained(collection, database, tmp_path, training={"epochs": 2})["generation"]
    assert codes(database) == {first: ITEMS + 1, third: ITEMS + 1}
    with pytest.raises(NotKept, match="is retired, not kept"):
        back(collection, database, second, third)
    assert Generations(database).published("c").id == third
    database.close()
