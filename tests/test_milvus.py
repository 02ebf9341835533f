"""Codes copied to Milvus Lite, the engine itself in a file: its ten nearest are Codewell's. `make milvus` runs it."""

import json
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from models import BinaryConfig, Codec, DenseConfig, LatentType, Metric, ResidualConfig, SparseConfig, Vectors
from service.cli import app
from service.engines import source
from service.engines.column import Column, Form, Type
from service.engines.mirror import Mirror
from service.errors import EngineAway, InvalidInput
from service.search import Stage
from service.store import store
from tests.conftest import started_codec
from tests.engine_collections import DIM, QUERIES, VECTORS, Asked, change, check_tens, publish, trained

HERE = find_spec("pymilvus") is not None and find_spec("milvus_lite") is not None
pytestmark = [
    pytest.mark.milvus,
    pytest.mark.skipif(not HERE, reason="needs pymilvus and milvus-lite 2.5: `make milvus` installs them"),
    # grpcio and pymilvus warn of each other's and Python's newer ways.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
DENSE = DenseConfig(8, LatentType.INT8, decoder_hidden=(12,))


def codec(config: Any, metric: Metric = Metric.COSINE) -> Codec:
    return started_codec(config, metric, DIM)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    """What a user of Milvus asks with."""
    from pymilvus import MilvusClient

    with closing(MilvusClient(str(tmp_path / "milvus.db"))) as client:
        yield client


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    from service.engines.milvus import Milvus

    with closing(Milvus(str(tmp_path / "milvus.db"), "docs")) as engine:
        yield engine


def live(client: Any) -> str:
    """How a reader finds the collection: see docs/engines.md."""
    (line,) = client.get("codewell_exports", ids=["docs"], output_fields=["copies"])
    return str(line["copies"]["live"])


def tens(client: Any) -> Asked:
    def asked(column: Column, queries: Vectors) -> list[list[str]]:
        given = column.queries(queries)
        data = [one.tobytes() if column.type is Type.BITS else one.astype(np.float16) for one in given]
        found = client.search(live(client), data=data, limit=10, output_fields=["id"])
        return [[hit["entity"]["id"] for hit in hits] for hits in found]

    return asked


def everything(client: Any) -> dict[str, Any]:
    name = live(client)
    client.load_collection(name)
    found = client.query(name, filter="row_id >= 0", limit=1_000, output_fields=["id", "metadata"])
    assert len({one["id"] for one in found}) == len(found)
    return {one["id"]: one["metadata"] for one in found}


@pytest.mark.parametrize(
    ("config", "metric", "form", "stage"),
    [
        (DENSE, Metric.COSINE, Form.CODES, Stage.SHORTLIST),
        (DENSE, Metric.COSINE, Form.VECTORS, Stage.REFINE),
        (DenseConfig(8, LatentType.INT8, decoder_hidden=()), Metric.IP, Form.CODES, Stage.REFINE),
        (ResidualConfig(4), Metric.L2, Form.VECTORS, Stage.REFINE),
        (ResidualConfig(7, error_byte=True), Metric.L2, Form.VECTORS, Stage.REFINE),
        (SparseConfig(64, 4), Metric.COSINE, Form.VECTORS, Stage.REFINE),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "code_bytes") else str(value),
)
def test_its_ten_nearest_are_codewells_own(
    config: Any, metric: Metric, form: Form, stage: Stage, tmp_path: Path, engine: Any, client: Any
) -> None:
    with trained(tmp_path, codec(config, metric)) as (database, collection):
        copy = Mirror(database, "docs", engine, form)
        assert copy.step() == (True, 400, 0, 400)
        check_tens(collection, form, stage, tens(client))
        tags = change(collection)
        step = copy.step()
        assert (step.whole, step.seq) == (False, collection.follower.catch_up().applied_seq)
        assert {one: held["tag"] for one, held in everything(client).items()} == tags
        check_tens(collection, form, stage, tens(client))
        assert copy.step() == (False, 0, 0, step.seq)


def test_bits_are_ordered_by_those_that_differ(tmp_path: Path, engine: Any, client: Any) -> None:
    with trained(tmp_path, codec(BinaryConfig(32))) as (database, collection):
        Mirror(database, "docs", engine, Form.CODES).step()
        kept = collection.follower.view().codec.encode(VECTORS[:400])
        codes = collection.encode(list(QUERIES), "vectors")[1]
        found = client.search(live(client), data=[one.tobytes() for one in codes], limit=10, output_fields=["id"])
        for hits, code in zip(found, codes, strict=True):
            differ = np.unpackbits(kept ^ code, axis=1).sum(axis=1)
            assert [hit["distance"] for hit in hits] == np.sort(differ)[:10].tolist()
            assert [differ[int(hit["entity"]["id"][1:])] for hit in hits] == np.sort(differ)[:10].tolist()


def test_what_was_cut_off_is_done_again_and_another_codec_replaces_all(
    tmp_path: Path, engine: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends in the middle of the second codec's copy: readers have the first one's until it is whole."""
    monkeypatch.setattr(source, "PAGE", 100)
    first, second = codec(DENSE), codec(BinaryConfig(32))
    with trained(tmp_path, first) as (database, collection):
        copy = Mirror(database, "docs", engine, Form.CODES)
        copy.step()
        before = live(client)
        assert before == f"docs_codes_{first.fingerprint}_400"
        publish(database, collection, second)
        read, pages = store.items_after, iter(range(10))

        def cut(session: Session, *arguments: Any) -> Any:
            if next(pages) == 2:
                raise KeyboardInterrupt
            return read(session, *arguments)

        monkeypatch.setattr(store, "items_after", cut)
        with pytest.raises(KeyboardInterrupt):
            copy.step()
        monkeypatch.setattr(store, "items_after", read)
        assert live(client) == before
        assert len(everything(client)) == 400
        draft = f"docs_codes_{second.fingerprint}_400"
        assert set(client.list_collections()) == {before, draft, "codewell_exports"}
        collection.delete(["i3"])
        assert copy.step().whole
        assert set(client.list_collections()) == {draft.replace("_400", "_401"), "codewell_exports"}
        assert len(everything(client)) == 399


def test_what_cannot_be_copied_is_refused(tmp_path: Path, engine: Any, client: Any) -> None:
    from service.engines.milvus import Milvus

    with trained(tmp_path, codec(SparseConfig(64, 4))) as (database, _):
        with pytest.raises(InvalidInput, match=r"no negative numbers .* --form vectors"):
            Mirror(database, "docs", engine, Form.CODES).step()
        taken = f"docs_vectors_{codec(SparseConfig(64, 4)).fingerprint}_400"
        client.create_collection(taken, dimension=4)
        with pytest.raises(InvalidInput, match="Codewell did not make it"):
            Mirror(database, "docs", engine, Form.VECTORS).step()
        assert client.list_collections() == [taken]
    with pytest.raises(InvalidInput, match="--table"):
        Milvus(str(tmp_path / "other.db"), "my-docs")
    with pytest.raises(EngineAway) as refused:
        Milvus("http://me:geheim@127.0.0.1:1", "docs")
    assert "geheim" not in str(refused.value)
    with pytest.raises(InvalidInput, match=r"no http://HOST:19530; in a password, / is %2F"):
        Milvus("http://me:1/geheim@127.0.0.1:1", "docs")


def test_the_command_copies(tmp_path: Path, client: Any) -> None:
    with trained(tmp_path, codec(DENSE)):
        pass
    client.close()
    target = str(tmp_path / "milvus.db")
    arguments = ["docs", "--to", "milvus", "--target", target, "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(app, ["export", *arguments])
    assert done.stdout == "400 rows written, all anew, as of seq 400, to 'docs' by milvus\n", done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["done"] == 400
