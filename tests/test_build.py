"""A build of real files by the real command, and the folder it leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models import Metric, exact_neighbours, recall
from service.builds.generation import Generation
from service.builds.inputs import Reading
from service.builds.manifest import Manifest
from service.cli import app
from service.errors import BuildError, DamagedGeneration
from service.index.segment import IndexKind
from service.index.view import View
from tests.build_files import DIM, FORMATS, VECTORS, N, ndjson, npy, table
from tests.conftest import clustered

FAST = ("--bytes", "8", "--epochs", "2", "--shard-rows", "300", "--workers", "1")
KILLED = ("--bytes", "8", "--epochs", "4", "--shard-rows", "500")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "service.cli", "build", *map(str, arguments)]


def built(*arguments: str | Path, code: int = 0) -> Any:
    """What the command prints, as JSON; its errors where it is to fail. It runs here: its start takes longer."""
    run = CliRunner().invoke(app, ["build", *map(str, arguments)])
    assert run.exit_code == code, run.stderr
    return json.loads(run.stdout) if run.stdout else run.stderr


def built_apart(*arguments: str | Path, code: int = 0) -> Any:
    """The same of a process of its own."""
    run = subprocess.run(command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == code, run.stderr
    return json.loads(run.stdout) if run.stdout else run.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The NPY build that others are compared with."""
    folder = tmp_path_factory.mktemp("reference")
    built_apart(npy(folder / "v.npy", VECTORS), "--output", folder / "out", *FAST)
    return folder


def test_recall_is_that_of_exact_search(reference: Path) -> None:
    generation = Generation.open(reference / "out")
    queries = clustered(50, DIM, 5)
    truth = exact_neighbours(VECTORS, queries, 10, Metric.COSINE).rows
    hits = generation.search(queries, 10)
    assert recall(hits.rows, truth).mean() > 0.75
    assert recall(generation.search(queries, 100).rows, truth).mean() > 0.99
    assert hits.ids[0] == [str(row) for row in hits.rows[0]]
    assert generation.place(int(hits.rows[0, 0])) == (str(reference / "v.npy"), hits.rows[0, 0])
    certificate = json.loads((reference / "out" / generation.manifest.generation / "certificate.json").read_text())
    assert certificate["queries"] == N // 20
    assert certificate["recall@10"]["faiss"]["refine"] > 0.75
    assert certificate["recall@10"]["faiss"]["rescore"] > 0.99


@pytest.mark.parametrize("form", FORMATS)
def test_all_formats_give_the_same_ids_and_neighbours(reference: Path, tmp_path: Path, form: str) -> None:
    if not form.startswith("nd") and form != "float16":
        pytest.importorskip("pyarrow")
    said = built(FORMATS[form](tmp_path), "--output", tmp_path / "out", *FAST)
    assert (said["items"], said["rejected"], said["codec"]) == (N, 0, "trained")
    queries = clustered(20, DIM, 6)
    one, other = (Generation.open(folder / "out").search(queries, 10) for folder in (reference, tmp_path))
    if form == "float16":  # rounded input, so nearly the same
        assert recall(one.rows, other.rows).mean() > 0.9
        return
    assert one.ids == other.ids
    assert np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize("kind", ["residual", "sparse", "binary", "faiss"])
def test_a_mapped_index_of_every_kind_answers_as_one_in_ram(tmp_path: Path, kind: str) -> None:
    source = npy(tmp_path / "v.npy", VECTORS)
    asked = ("--factory", "PQ4x8", *FAST[2:]) if kind == "faiss" else ("--codec", kind, *FAST)
    built(source, "--output", tmp_path / "out", *asked)
    generation = Generation.open(tmp_path / "out")
    codec = generation.view.codec
    assert codec.kind == kind
    in_ram = View.of(None, codec, 0, np.arange(N), codec.encode(VECTORS))
    queries = clustered(20, DIM, 7)
    one, other = (view.search(queries, 50, IndexKind.FAISS) for view in (generation.view, in_ram))
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.scores, other.scores)
    if kind == "faiss":
        refused = built(source, "--output", tmp_path / "out", "--factory", "PQ2x8", code=1)
        assert "--factory: the folder's codec is PQ4x8; leave it out" in refused


def test_ids_beside_a_matrix(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("".join(f"é{row}\n" for row in range(N - 1)))
    source = npy(tmp_path / "v.npy", VECTORS)
    said = built(source, "--ids", tmp_path / "ids.txt", "--output", tmp_path / "out", *FAST, code=3)
    assert said["items"] == N - 1
    (reject,) = map(json.loads, Path(said["rejects"]).read_text().splitlines())
    assert reject == {"file": str(source), "row": N - 1, "reason": "id: missing"}
    assert Generation.open(tmp_path / "out").search(VECTORS[7:8], 3).ids[0][0] == "é7"


def test_the_second_run_does_nothing_and_one_more_file_encodes_only_itself(tmp_path: Path) -> None:
    out = tmp_path / "out"
    npy(tmp_path / "a.npy", VECTORS)
    built(tmp_path / "*.npy", "--output", out, *FAST)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    said = built(tmp_path / "*.npy", "--output", out, *FAST)
    assert (said["codec"], said["encoded"]) == ("unchanged", 0)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    more = clustered(400, DIM, 9)
    npy(tmp_path / "b.npy", more)
    said = built(tmp_path / "*.npy", "--output", out, *FAST)
    assert (said["codec"], said["encoded"], said["items"]) == ("kept", 400, N + 400)
    shards = {path: at for path, at in before.items() if path.parent.name == "shards"}
    assert len(shards) == 4
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    generation = Generation.open(out)
    assert generation.place(int(generation.search(more[3:4], 1).rows[0, 0])) == (str(tmp_path / "b.npy"), 3)

    said = built(tmp_path / "*.npy", "--output", out, *FAST, "--retrain")
    assert (said["codec"], said["encoded"]) == ("trained", N + 400)
    said = built(tmp_path / "b.npy", "--output", tmp_path / "other", "--codec-from", out, *FAST[4:])
    assert (said["codec"], said["items"]) == ("taken", 400)
    assert "--retrain" in built(tmp_path / "*.npy", "--output", out, "--bytes", "4", code=1)


def test_cuda_encodes_residual_codes_in_one_process_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.builds.workers._cuda", lambda: True)
    path, two = npy(tmp_path / "v.npy", VECTORS[:400]), ("--shard-rows", "200", "--workers", "2")
    said = built(path, "--output", tmp_path / "r", "--codec", "residual", "--bytes", "1", "--minutes", "0.01", *two)
    assert (said["encoded"], said["worker_peak_mb"]) == (400, 0)
    said = built(path, "--output", tmp_path / "d", "--bytes", "8", "--epochs", "1", *two)
    assert said["encoded"] == 400
    assert said["worker_peak_mb"] > 50


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that nothing disturbs; how many workers encode changes nothing of it."""
    folder = tmp_path_factory.mktemp("calm")
    built(npy(folder / "v.npy", clustered(3_000, DIM)), "--output", folder / "out", *KILLED, "--workers", "1")
    return folder


@pytest.mark.parametrize(
    ("workers", "moments"),
    [
        ("1", ("work/checkpoint/*", "shards/*-2500-*")),
        ("2", ("work/vectors.npy", "work/checkpoint/*", "shards/*.safetensors", "work/generation/*")),
    ],
)
def test_killed_at_any_moment_it_ends_as_an_undisturbed_build(
    calm: Path, tmp_path: Path, workers: str, moments: tuple[str, ...]
) -> None:
    arguments = (calm / "v.npy", "--output", tmp_path / "hurt", *KILLED, "--workers", workers)
    kills, rng = 0, random.Random(int(workers))
    for moment in moments:
        # Most moments come back after a kill, since only whole files count; each is a little later than the file.
        with subprocess.Popen(command(*arguments), env=ENVIRONMENT, stdout=-3, stderr=-3) as process:
            while process.poll() is None and not any((tmp_path / "hurt").glob(moment)):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= len(moments) / 2
    built_apart(*arguments)
    assert files(tmp_path / "hurt") == files(calm / "out")


def test_ctrl_c_says_that_it_goes_on(tmp_path: Path) -> None:
    source = npy(tmp_path / "v.npy", clustered(6_000, DIM))
    arguments = (source, "--output", tmp_path / "out", "--bytes", "8", "--epochs", "500", "--workers", "2")
    with subprocess.Popen(command(*arguments), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "training" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert (process.returncode, "the same command goes on from here" in said) == (130, True), said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_each_broken_row_is_rejected_with_its_reason(tmp_path: Path) -> None:
    source = ndjson(tmp_path / "v.ndjson", VECTORS)
    row = VECTORS[0].tolist()
    broken = {
        json.dumps({"id": "w", "vector": [1.0, 2.0]}): "2 numbers instead of 16",
        json.dumps({"id": "n", "vector": [*row[1:], float("nan")]}): "position 15 is NaN",
        json.dumps({"id": "z", "vector": [0.0] * DIM}): "zero vector",
        json.dumps({"vector": row}): "id: missing",
        json.dumps({"id": "", "vector": row}): "1 to 512 characters",
        json.dumps({"id": 5, "vector": row}): "'5' stands earlier in this file",
        json.dumps({"id": "t", "text": "words"}): "texts are not encoded",
        json.dumps({"id": "s", "vector": ["x"]}): "position 0 is not a number",
        "[1, 2]": "not a JSON object",
        '{"id": "cut", "vec': "not JSON",
    }
    with source.open("a") as file:
        file.write("\n" + "\n".join(broken))
    said = built(source, "--output", tmp_path / "out", *FAST, code=3)
    assert (said["items"], said["rejected"]) == (N, len(broken))
    told = sorted(map(json.loads, Path(said["rejects"]).read_text().splitlines()), key=lambda one: one["line"])
    assert [one["line"] for one in told] == list(range(N + 2, N + 2 + len(broken)))
    for one, reason in zip(told, broken.values(), strict=True):
        assert reason in one["reason"], one
        assert one["file"] == str(source)
    again = built(source, "--output", tmp_path / "strict", *FAST, "--max-rejects", "5", code=1)
    assert "--max-rejects: 9 rows are rejected, 5 may be" in again


def test_cut_files_keep_what_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    whole = npy(tmp_path / "a.npy", VECTORS).read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[: -10 * DIM * 4 - 3])
    packed = ndjson(tmp_path / "b.ndjson.gz", VECTORS).read_bytes()
    (tmp_path / "b.ndjson.gz").write_bytes(packed[: len(packed) // 2])
    table(tmp_path / "c.parquet", VECTORS)
    (tmp_path / "c.parquet").write_bytes((tmp_path / "c.parquet").read_bytes()[:-20])
    stream = table(tmp_path / "d", VECTORS) / "data-00000-of-00001.arrow"
    stream.write_bytes(stream.read_bytes()[: stream.stat().st_size // 2])
    (tmp_path / "e.npy").write_bytes(b"no matrix")
    said = built(tmp_path / "?.*", tmp_path / "d", "--output", tmp_path / "out", *FAST, code=3)
    told = [json.loads(line) for line in Path(said["rejects"]).read_text().splitlines()]
    reasons = {Path(one["file"]).name: one for one in told}
    assert sorted(reasons) == ["a.npy", "b.ndjson.gz", "c.parquet", "data-00000-of-00001.arrow", "e.npy"]
    assert reasons["a.npy"] | {"file": ""} == {
        "file": "",
        "row": N - 11,
        "reason": f"the file is cut short: {N - 11} of {N} rows are there",
    }
    assert "cannot be read on from here" in reasons["b.ndjson.gz"]["reason"]
    assert said["items"] > N - 11 + 250 + 100


def test_a_manifest_of_another_format_is_refused_and_that_of_before_read(reference: Path) -> None:
    given = json.loads((reference / "out" / "manifest.json").read_text())
    assert given["format"] == 4
    before = Manifest.parsed(json.dumps(given | {"format": 3}).encode(), "here")
    assert (before.items, before.format) == (N, 3)
    for other in (2, 5):
        with pytest.raises(DamagedGeneration, match=f"here is of format {other}, and this program reads 3 to 4"):
            Manifest.parsed(json.dumps(given | {"format": other}).encode(), "here")


def test_a_damaged_shard_is_refused_by_name(reference: Path, tmp_path: Path) -> None:
    source = npy(tmp_path / "v.npy", VECTORS)
    built(source, "--output", tmp_path / "out", *FAST)
    shard = sorted((tmp_path / "out" / "shards").iterdir())[1]
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DamagedGeneration, match=shard.name):
        Generation.open(tmp_path / "out")
    shard.unlink()
    with pytest.raises(DamagedGeneration, match=shard.name):
        Generation.open(tmp_path / "out")
    assert built(source, "--output", tmp_path / "out", *FAST)["encoded"] == 300
    assert shard.read_bytes() == good
    index = next((tmp_path / "out").glob("generation-*/index"))
    index.unlink()
    with pytest.raises(DamagedGeneration, match="index"):
        Generation.open(tmp_path / "out")
    assert built(source, "--output", tmp_path / "out", *FAST)["encoded"] == 0
    assert len(Generation.open(tmp_path / "out")) == N
    codec = next((tmp_path / "out").glob("generation-*/codec.safetensors"))
    codec.unlink()
    with pytest.raises(DamagedGeneration, match=r"codec\.safetensors .* again with --retrain"):
        Generation.open(tmp_path / "out")
    assert built(source, "--output", tmp_path / "out", *FAST, "--retrain")["codec"] == "trained"
    assert len(Generation.open(tmp_path / "out")) == N


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service.builds.arrow", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BuildError, match=r"needs pyarrow: pip install 'codewell\[build\]'"):
        Reading().reader(tmp_path / "v.parquet")
    assert Reading().reader(npy(tmp_path / "v.npy", VECTORS)).parts(N) == [(0, N, 0)]


def test_what_cannot_be_built_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("1,2")
    (tmp_path / "empty.ndjson").write_text("")
    for name, reason in {"none.npy": "names no file", "v.csv": "ends in none of", "empty.ndjson": "no vector"}.items():
        said = built_apart(tmp_path / name, "--output", tmp_path / "out", code=1)
        assert reason in said
        assert "Traceback" not in said
