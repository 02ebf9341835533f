"""A build's folder at a URL: fetched, gone on with, put back; whoever reads it there finds one build, whole."""

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.builds.generation import Generation
from service.builds.remote_folder import RemoteFolder, fetched
from service.cli import app
from service.errors import DamagedGeneration
from tests.build_files import VECTORS, N, npy
from tests.conftest import start_server
from tests.file_server import FileServer, file_server
from tests.test_build import FAST, built, files

fsspec = pytest.importorskip("fsspec")
URL = "memory://store/words"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of this test's own, and a store that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store().store.clear()
    yield
    store().store.clear()


def store() -> Any:
    return fsspec.filesystem("memory")


def stored() -> dict[str, bytes]:
    return {name.removeprefix("/store/words/"): store().cat_file(name) for name in store().find("/store/words")}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    npy(tmp_path / "in" / "a.npy", VECTORS[:600])
    return tmp_path / "in"


def test_it_holds_what_a_folder_would(inputs: Path, tmp_path: Path) -> None:
    command = (f"{inputs}/*.npy", *FAST)
    told = built(*command, "--output", URL)
    assert (told["output"], told["items"]) == (URL, 600)
    built(*command, "--output", tmp_path / "out")
    assert stored() == files(tmp_path / "out")
    opened = Generation.open(URL)
    assert opened.search(VECTORS[5:6], 1).ids == [["5"]]
    assert files(opened.folder) == stored()
    # Another machine, which has nothing of it, encodes what is new only; and the first one, what came from there.
    npy(inputs / "b.npy", VECTORS[600:900])
    told = built(*command, "--output", URL, "--local", tmp_path / "other")
    assert (told["encoded"], told["codec"], told["items"]) == (300, "kept", 900)
    npy(inputs / "c.npy", VECTORS[900:])
    told = built(*command, "--output", URL)
    assert (told["encoded"], told["items"]) == (300, N)
    manifest = json.loads(stored()["manifest.json"])
    assert set(stored()) == {"manifest.json", *manifest["files"]}  # of older builds nothing is left
    assert Generation.open(URL).search(VECTORS[1_000:1_001], 1).ids == [["100"]]
    before = {name: info["created"] for name, info in store().find("/store", detail=True).items()}
    assert built(*command, "--output", URL)["codec"] == "unchanged"
    assert {name: info["created"] for name, info in store().find("/store", detail=True).items()} == before


def test_one_that_is_cut_off_is_not_seen_and_goes_on(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (f"{inputs}/*.npy", *FAST, "--output", URL)
    built(*command)
    before = stored()
    npy(inputs / "b.npy", VECTORS[600:])
    system, put = type(store()), type(store()).put_file
    sent = list[str]()
    away = 7

    def fails(self: Any, path: str, to: str, **options: Any) -> None:
        if len(sent) == away:
            raise OSError("the network is away")
        sent.append(to.removeprefix("/store/words/"))
        put(self, path, to, **options)

    with monkeypatch.context() as patched:
        patched.setattr(system, "put_file", fails)
        said = built(*command, code=1)
    assert URL in said
    assert "the network is away" in said
    assert {name: stored()[name] for name in before} == before  # whoever reads it finds the build before
    assert len(Generation.open(URL)) == 600
    (shard,) = (one for one in sent if one.startswith("shards/"))  # the last of the seven that got there
    sent.clear()
    away = 100
    with monkeypatch.context() as patched:
        patched.setattr(system, "put_file", fails)
        told = built(*command)
    assert (told["encoded"], told["items"]) == (0, N)
    assert len(sent) == 7  # the other shard, and what of the generation is too small to be known by its size
    assert shard not in sent
    assert len(Generation.open(URL)) == N


def test_of_two_builds_at_once_the_second_ends_with_an_error(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would take the other's files for its own."""
    command = (f"{inputs}/*.npy", *FAST, "--output", URL)
    begun = RemoteFolder.begun

    def overtaken(self: RemoteFolder, folder: Path, *report: Callable[..., object]) -> None:
        begun(self, folder, *report)
        monkeypatch.undo()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        built(*command, "--local", tmp_path / "faster")

    monkeypatch.setattr(RemoteFolder, "begun", overtaken)
    said = built(*command, "--seed", "5", "--local", tmp_path / "slower", code=1)
    assert "another build has been put" in said
    expected = files(tmp_path / "faster")
    del expected["synced"]  # the local folder's own
    assert stored() == expected
    assert built(*command, "--local", tmp_path / "slower")["codec"] == "unchanged"


def test_what_is_damaged_or_strange_is_refused(inputs: Path, tmp_path: Path) -> None:
    built(f"{inputs}/*.npy", *FAST, "--output", URL)
    whole = stored()
    (name,) = (one for one in whole if one.endswith("codec.safetensors"))
    store().pipe_file(f"/store/words/{name}", whole[name][:-1] + bytes([whole[name][-1] ^ 1]))
    with pytest.raises(DamagedGeneration, match=r"codec\.safetensors is not the file that was written"):
        fetched(URL)
    store().pipe_file(f"/store/words/{name}", whole[name])
    manifest = json.loads(whole["manifest.json"])
    manifest["files"]["../../stolen"] = manifest["files"][name]
    store().pipe_file("/store/words/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(DamagedGeneration, match="which no build writes"):
        fetched(URL)
    assert not list(tmp_path.rglob("stolen"))
    store().rm_file("/store/words/manifest.json")
    with pytest.raises(DamagedGeneration, match=r"manifest\.json is missing"):
        fetched(URL)
    assert "can only be read" in built(f"{inputs}/*.npy", *FAST, "--output", "http://127.0.0.1:1/words", code=1)


def test_what_is_at_a_url_is_attached(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(f"{inputs}/*.npy", *FAST, "--output", URL)
    monkeypatch.setenv("CODEWELL_DATA_DIR", str(tmp_path / "data"))
    run = CliRunner().invoke(app, ["attach", "words", URL])
    assert run.exit_code == 0, run.stderr
    server = start_server(tmp_path / "data", ENCODER="none")
    assert server.get("/collections/words")["items"] == 600
    found = server.post("/search", {"collection": "words", "vector": VECTORS[7].tolist(), "k": 1})
    assert found["hits"][0]["id"] == "7"
    assert server.stop() == 0


def test_a_server_serves_what_is_at_a_url(inputs: Path, tmp_path: Path) -> None:
    """Over HTTP, in a process of its own."""
    built(f"{inputs}/*.npy", *FAST, "--output", tmp_path / "web" / "words")
    with file_server(tmp_path / "web") as web:
        assert isinstance(web, FileServer)
        server = start_server(tmp_path / "log", "--generation", f"{web.url}/words")
        hits = server.post("/search", {"vector": VECTORS[7].tolist(), "k": 1})["hits"]
        assert hits[0]["id"] == "7"
        assert server.stop() == 0


def test_processes_that_fetch_the_same_at_once_get_it(inputs: Path, tmp_path: Path) -> None:
    built(f"{inputs}/*.npy", *FAST, "--output", tmp_path / "web" / "words")
    with file_server(tmp_path / "web") as web:
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            folders = pool.map(fetched, [f"{web.url}/words"] * 4)
        assert len(set(folders)) == 1
        assert web.sent["words/manifest.json"] > 0
        size = sum(told["bytes"] for told in json.loads((folders[0] / "manifest.json").read_text())["files"].values())
        assert sum(web.sent.values()) < 1.5 * size + 100_000  # each file once
        shutil.rmtree(folders[0])
        assert np.array_equal(Generation.open(f"{web.url}/words").view.base.rows, np.arange(600))
