"""A built folder made a collection answers as the folder does, and takes changes as any other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service import attachment as attachment_module
from service.attachment import Attachment
from service.builds.generation import Generation
from service.cli import app
from service.errors import CollectionExists, Conflict, InvalidInput
from service.index.segment import IndexKind
from service.snapshots import Snapshots
from service.store import store
from service.text.tfidf import TfidfEncoder
from service.verification import verify
from tests.build_files import DIM, VECTORS, N, npy
from tests.conftest import Server, clustered
from tests.test_build import FAST, built
from tests.test_collection import catalog_of, item

QUERIES = clustered(5, DIM, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of two files, whose rows have numbers for ids."""
    home = tmp_path_factory.mktemp("built")
    vectors = VECTORS.copy()
    vectors[1_000, 3] = np.nan  # a row that is rejected, so that rows and places differ
    first, second = npy(home / "a.npy", vectors[:500]), npy(home / "b.npy", vectors[500:])
    built(first, second, "--output", home / "out", "--codec", "residual", *FAST, code=3)
    return home / "out"


def attached(*words: str | Path, code: int = 0) -> str:
    run = CliRunner().invoke(app, ["attach", *map(str, words)])
    assert run.exit_code == code, run.output
    return run.stdout if code == 0 else run.stderr


def hits(server: Server, vector: Any, k: int = 10) -> list[tuple[str, float]]:
    found = server.post("/search", {"collection": "c", "vector": vector.tolist(), "k": k})["hits"]
    return [(hit["id"], hit["score"]) for hit in found]


def named(built: Generation, ids: list[str | None], rows: Any) -> list[str]:
    """As --file-ids calls them."""
    return [f"{Path(built.place(row)[0]).name}:{one}" for one, row in zip(ids, rows.tolist(), strict=True)]


def test_beside_a_server_it_is_searched_changed_and_started_from(
    folder: Path, tmp_path: Path, new_server: Callable[..., Server]
) -> None:
    server = new_server(SNAPSHOT_AT="1000", TFIDF_DIMENSION=str(DIM))
    runner = CliRunner(env={"CODEWELL_SNAPSHOT_AT": "1000", "CODEWELL_TFIDF_DIMENSION": str(DIM)})
    options = ("--file-ids", "--encoder", "tfidf", "--data-dir", str(server.data_dir))
    run = runner.invoke(app, ["attach", "c", str(folder), *options])
    assert run.exit_code == 0, run.output
    assert run.stdout == f"{N - 1} items, {N - 1} written now, as generation 1 of c\n"
    generation = Generation.open(folder)
    expected = generation.search(QUERIES, 10)
    for query, ids, rows, scores in zip(QUERIES, expected.ids, expected.rows, expected.scores, strict=True):
        found = hits(server, query)
        assert [one for one, _ in found] == named(generation, ids, rows)
        np.testing.assert_allclose([score for _, score in found], scores, rtol=1e-5)
    told = server.get("/collections/c")
    assert (told["items"], told["originals"], told["codec"]["kind"]) == (N - 1, "drop", "residual")
    certificate = server.get("/collections/c/certificate")["certificate"]
    assert certificate["recall@10"] == generation.manifest.certificate(folder)["recall@10"]
    assert certificate["stage"] == "refine"

    def changed() -> list[tuple[str, float]]:
        return hits(server, VECTORS[7], 2)

    assert changed()[0][0] == "a.npy:7"
    server.post("/ingest", {"collection": "c", "items": [{"id": "new", "vector": VECTORS[7].tolist(), "text": "n"}]})
    assert {one for one, _ in changed()} == {"a.npy:7", "new"}
    answer = server.client.delete("/collections/c/items/a.npy:7")
    assert answer.status_code == 204, answer.text
    assert [one for one, _ in changed() if one in ("a.npy:7", "new")] == ["new"]
    server.post("/ingest", {"collection": "c", "items": [{"id": "a.npy:9", "vector": (-VECTORS[9]).tolist()}]})
    assert "a.npy:9" not in [one for one, _ in hits(server, VECTORS[9])]
    before = changed()
    (embedded,) = server.post("/v1/embeddings", {"model": "c", "input": "some words"})["data"]
    asked = server.post("/search", {"collection": "c", "text": "some words"})["hits"]
    assert [(hit["id"], hit["score"]) for hit in asked] == hits(server, np.array(embedded["embedding"]))
    for refused in (
        server.client.post("/collections/c/train", json={}),
        server.client.patch("/collections/c", json={"codec": {"bytes": 4}}),
        server.client.get("/collections/c/recall"),
        server.client.post("/search", json={"collection": "c", "vector": VECTORS[0].tolist(), "index": "exact"}),
    ):
        assert refused.status_code == 409, refused.text
    assert server.stop() == 0
    (snapshot,) = (server.data_dir / "snapshots").glob("*/*/manifest.json")
    assert json.loads(snapshot.read_text())["applied_seq"] >= N - 1
    server = new_server(SNAPSHOT_AT="1000", TFIDF_DIMENSION=str(DIM))
    assert changed() == before
    assert "refused" not in server.log.read_text()
    database, _ = catalog_of(f"sqlite:///{server.data_dir / 'codewell.db'}")
    assert list(verify(database, None, Snapshots(server.data_dir / "snapshots", database))) == []
    database.close()


def test_cut_off_it_goes_on_on_either_database(
    folder: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachment_module, "PAGE", 100)
    database, catalog = catalog_of(database_url)
    built = Generation.open(folder)
    attachment = Attachment(database, Snapshots(tmp_path / "snapshots", database), built, None)

    def cut_off(done: int, total: int) -> None:
        assert total == N - 1
        if done >= 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attachment.run("c", file_ids=True, progress=cut_off)
    assert [(one.name, one.items) for one in catalog.list()] == [("c.attaching", 600)]
    with pytest.raises(Conflict, match="these options: delete that collection"):  # or ids would be of two kinds
        attachment.run("c")
    with pytest.raises(Conflict, match="these options: delete that collection"):
        Attachment(database, None, built, TfidfEncoder(DIM)).run("c", file_ids=True)
    made = attachment.run("c", file_ids=True)
    assert (made.items, made.written) == (N - 1, N - 1 - 600)
    assert [(one.name, one.items, one.seq) for one in catalog.list()] == [("c", N - 1, N - 1)]
    collection = catalog.open("c")
    expected = built.search(QUERIES, 10)
    view = collection.follower.view()
    found = view.scores(QUERIES, np.arange(1, N)[None].repeat(len(QUERIES), 0))
    np.testing.assert_allclose(-np.sort(-found)[:, :10], expected.scores, rtol=1e-5)
    assert list(verify(database, "c")) == []
    with pytest.raises(CollectionExists, match="already"):
        attachment.run("c")
    database.close()


def test_what_does_not_fit_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    attachment = Attachment(database, None, Generation.open(folder), None)
    with pytest.raises(InvalidInput, match="cannot be the name"):
        attachment.run("a/b")
    with pytest.raises(Conflict, match=r"the id '0' stands in two of the inputs.*delete the collection 'c\.attaching'"):
        attachment.run("c")
    assert catalog.list()[0].items == 500  # the first file's
    catalog.open("c.attaching").ingest([item("mine", VECTORS[0]), item("0", VECTORS[0])])
    with pytest.raises(Conflict, match="delete that collection"):
        attachment.run("c", file_ids=True)
    with database.reading() as session:
        assert store.found_collection(session, "c.attaching").item_count == 501
    catalog.delete("c.attaching")
    assert attachment.run("c", file_ids=True).items == N - 1
    database.close()
    data = ("--data-dir", tmp_path / "other")
    assert "there is no encoder 'none'" in attached("c", folder, *data, "--encoder", "none", code=1)
    assert "makes vectors of 2048 numbers" in attached("c", folder, *data, "--encoder", "tfidf", code=1)
    assert "manifest.json" in attached("c", tmp_path, *data, code=1)


@pytest.mark.parametrize("kind", ["dense", "variational", "sparse", "binary", "faiss"])
def test_codes_of_every_kind(tmp_path: Path, kind: str) -> None:
    source = npy(tmp_path / "v.npy", VECTORS)
    asked = ("--factory", "PQ4x8", *FAST[2:]) if kind == "faiss" else ("--codec", kind, *FAST)
    built(source, "--output", tmp_path / "out", *asked)
    database, catalog = catalog_of(tmp_path)
    generation = Generation.open(tmp_path / "out")
    Attachment(database, None, generation, None).run("c")
    told = catalog.describe("c")
    assert (told.codec["kind"], told.items) == (kind, N)
    assert told.certificate is not None
    assert told.certificate["code_bytes"] == generation.view.codec.code_bytes
    view = catalog.open("c").follower.view()
    one, other = (some.search(QUERIES, 10, IndexKind.FAISS) for some in (view, generation.view))
    assert np.array_equal(one.rows, other.rows + 1)
    assert np.array_equal(one.scores, other.scores)
    assert list(verify(database, "c")) == []
    database.close()
