"""Inputs at URLs are read as the same local files are, by ranges; what goes wrong is said without secrets."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.builds.address import joined, scrubbed, shown
from service.builds.found import found
from service.builds.generation import Generation
from service.builds.inputs import Reading, surveyed
from service.builds.remote import RemoteFile
from service.builds.shard import Task, encode
from service.errors import BuildError
from tests.build_files import DIM, FORMATS, VECTORS, N, npy, table
from tests.conftest import clustered, started_codec
from tests.file_server import FileServer, file_server
from tests.test_build import FAST, built, files

pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "web").mkdir()
    with file_server(tmp_path / "web") as running:
        yield running


def read(place: Any, wanted: Any = None) -> list[Any]:
    """Everything that a reader gives of a file, in blocks of 100 rows."""
    reader, got = Reading().reader(place), []
    for part in reader.parts(300):
        rows = None if wanted is None else wanted[(wanted >= part.start) & (wanted < part.stop)]
        if rows is None or len(rows):
            got += list(reader.blocks(part, 100, rows))
    ids = [one for block in got for one in block.ids or block.rows.tolist()]
    assert not any(block.problems for block in got)
    numbers, row_numbers = (np.concatenate([block[at] for block in got]) for at in (2, 0))
    return [ids, numbers.tobytes(), row_numbers.tolist()]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_as_the_local_file(web: FileServer, form: str) -> None:
    (place,) = found([str(FORMATS[form](web.folder))])
    assert isinstance(place, Path)
    (remote,) = found([f"{web.url}/{place.relative_to(web.folder)}"])
    assert isinstance(remote, RemoteFile)
    for wanted in (None, np.array([0, 1, 2, 5, 250, 251, 700, 1_199])):
        assert read(remote, wanted) == read(place, wanted)
    if form == "dataset":
        assert found([f"{web.url}/dataset"]) == [remote]


def test_only_what_is_needed_is_read(web: FileServer) -> None:
    wide = clustered(40_000, 64)
    npy(web.folder / "a.npy", wide)
    chosen = np.arange(10, 40_000, 4_000)
    got = read(RemoteFile(f"{web.url}/a.npy"), chosen)
    assert got[1] == wide[chosen].tobytes()
    assert web.sent["a.npy"] < 1.1 * 2 * 64 * 4 * len(chosen) + 5 * 1024 * 1024  # the header is read in one large piece
    place = table(web.folder / "b.parquet", VECTORS)
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(place).append_column("text", [["x" * 5_000 + str(row) for row in range(N)]]), place)
    read(RemoteFile(f"{web.url}/b.parquet"))
    assert web.sent["b.parquet"] < 5 * 64 * 1024 + 2 * VECTORS.nbytes


def test_a_build_is_that_of_the_local_files_and_the_next_one_reads_nothing(web: FileServer, tmp_path: Path) -> None:
    npy(web.folder / "a.npy", VECTORS[:700])
    table(web.folder / "b.parquet", VECTORS[700:])
    local, out = tmp_path / "local", tmp_path / "out"
    built(f"file://{web.folder}/a.npy", web.folder / "b.parquet", "--output", local, *FAST)
    web.user = "user:secret-word"
    addresses = [
        f"http://user:secret-word@{web.url[7:]}/{name}?sig=veiled-{name[0]}" for name in ("a.npy", "b.parquet")
    ]
    said = built(*addresses, "--output", out, *FAST)
    assert (said["items"], said["rejected"]) == (N, 0)
    generation, other = Generation.open(out), Generation.open(local)
    assert [shard.codes().tobytes() for shard in generation.shards] == [one.codes().tobytes() for one in other.shards]
    for name in ("codec.safetensors", "index", "rows.npy"):
        one, two = (folder.folder / folder.manifest.generation / name for folder in (generation, other))
        assert one.read_bytes() == two.read_bytes()
    assert generation.place(700) == (f"{web.url}/b.parquet", 0)
    assert b"secret-word" not in b"".join(files(out).values())
    assert b"veiled" not in b"".join(files(out).values())
    web.asked.clear()
    said = built(*(one.replace("veiled", "tomorrow") for one in addresses), "--output", out, *FAST)
    assert (said["codec"], said["encoded"]) == ("unchanged", 0)
    assert {method for method, _ in web.asked} == {"HEAD"}
    npy(web.folder / "a.npy", VECTORS[:600])
    said = built(*addresses, "--output", out, *FAST)
    assert (said["codec"], said["encoded"], said["items"]) == ("kept", 600, N - 100)


def test_a_glob_names_what_the_server_lists(web: FileServer, tmp_path: Path) -> None:
    (web.folder / "in").mkdir()
    for name in ("x-1.npy", "x-2.npy", "y.npy"):
        npy(web.folder / "in" / name, VECTORS)
    assert [str(one) for one in found([f"{web.url}/in/x-*.npy"])] == [f"{web.url}/in/x-{n}.npy" for n in (1, 2)]
    with pytest.raises(BuildError, match="names no file"):
        found([f"{web.url}/in/z*.npy"])
    with pytest.raises(BuildError, match="is given twice"):
        found([f"{web.url}/a.npy?a=1", f"{web.url}/a.npy?a=2"])
    assert found([f"file://{web.folder}/in/x-*.npy"]) == [web.folder / "in" / "x-1.npy", web.folder / "in" / "x-2.npy"]


@pytest.mark.parametrize("lacks", ["ranged", "tells"])
def test_a_server_without_ranges_or_etags_is_copied_from(web: FileServer, tmp_path: Path, lacks: str) -> None:
    setattr(web, lacks, False)
    npy(web.folder / "a.npy", VECTORS)
    out = tmp_path / "out"
    assert built(f"{web.url}/a.npy", "--output", out, *FAST)["items"] == N
    assert Generation.open(out).place(5) == (f"{web.url}/a.npy", 5)
    assert not (out / "copies").exists()
    assert built(f"{web.url}/a.npy", "--output", out, *FAST)["codec"] == "unchanged"


def test_a_file_that_changes_goes_or_breaks_off_ends_the_build(web: FileServer, tmp_path: Path) -> None:
    path = npy(web.folder / "a.npy", VECTORS)
    address = f"http://user:secret-word@{web.url[7:]}/a.npy?sig=veiled"
    reading, codec = Reading(), started_codec_of(DIM)
    (source,) = surveyed([RemoteFile(address)], reading, 600, [], lambda _: None)
    tasks = [Task(tmp_path / "shard", source, part, reading, 300) for part in source.parts]
    assert "secret-word" not in repr(tasks) + json.dumps(source.to_dict())
    assert len(pickle.dumps(tasks[0])) < 1_000
    for task in tasks:
        assert encode(pickle.loads(pickle.dumps(task)), codec) == 600  # noqa: S301

    def told() -> str:
        with pytest.raises(BuildError) as caught:
            encode(tasks[1], codec)
        assert f"{web.url}/a.npy" in str(caught.value)
        assert "secret-word" not in str(caught.value)
        assert "veiled" not in str(caught.value)
        return str(caught.value)

    web.breaks_after = 10_000
    assert "cannot be read" in told()
    web.breaks_after = None
    npy(path, VECTORS + 1)
    assert "changed while it was being read" in told()
    npy(path, VECTORS[:800])
    assert "breaks off or has changed" in told()
    path.unlink()
    assert "is not there" in told()
    web.server.server_close()
    web.server.shutdown()
    told()


def started_codec_of(dim: int) -> Any:
    from models import DenseConfig, LatentType, Metric

    return started_codec(DenseConfig(6, LatentType.INT8, decoder_hidden=(8,)), Metric.COSINE, dim)


def test_what_is_missing_is_named(tmp_path: Path, web: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    for address, reason in {
        f"{web.url}/none.npy": "/none.npy is not there",
        f"{web.url}/v.csv": "ends in none of .npy",
        "nothing://x/a.npy": "Protocol not known: nothing",
        "zip://a.npy::http://x": "chains file systems",
    }.items():
        assert reason in built(address, "--output", out, *FAST, code=1)
    monkeypatch.setitem(__import__("sys").modules, "aiohttp", None)
    said = built(f"{web.url}/a.npy", "--output", out, *FAST, code=1)
    assert "pip install 'codewell[urls]'" in said


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://u:p@h:1/a/b.npy?X-Amz-Signature=s", "https://h:1/a/b.npy"),
        ("https://token@h/a.npy", "https://h/a.npy"),
        ("s3://bucket/a@b/x-?.parquet", "s3://bucket/a@b/x-?.parquet"),
        ("s3://bucket/a.npy?versionId=7", "s3://bucket/a.npy"),
        ("abfs://box@account.host/a.npy?sig=s", "abfs://box@account.host/a.npy"),
        ("sftp://u:p@h/a?b/c.npy", "sftp://h/a?b/c.npy"),
        ("memory://x/a.npy", "memory://x/a.npy"),
    ],
)
def test_what_is_shown_of_a_url(url: str, told: str) -> None:
    assert shown(url) == told
    assert shown(joined(url, "n")) == told + "/n"


def test_secrets_are_found_in_whatever_pieces() -> None:
    url = "https://user:pass%21word@h/a.npy?sig=long%2Fsecret&v=1"
    text = f"GET {url} failed for pass!word (user:pass%21word), sig long/secret, long%2Fsecret at https://h/a.npy"
    said = scrubbed(text, url)
    assert said == "GET https://h/a.npy failed for … (…), sig …, … at https://h/a.npy"
