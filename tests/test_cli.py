import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service import serving
from service.settings import Settings
from service.upload import Source, UnreadableFile
from service.watch import asked_codec
from tests.conftest import Server, clustered

CODEWELL = [sys.executable, "-m", "service.cli"]
Run = subprocess.CompletedProcess[str]


def environment(url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
    return kept | {"CODEWELL_URL": url, "COLUMNS": "80"}


def codewell(server: Server | None, *arguments: str | Path) -> Run:
    """Runs the command to its end, without a terminal."""
    url = "http://127.0.0.1:1" if server is None else server.url
    command = [*CODEWELL, *map(str, arguments)]
    return subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=60, check=False)


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def last_json(run: Run) -> Any:
    return json.loads(run.stdout.splitlines()[-1])


# ingest


def test_a_broken_line_is_named_and_the_others_are_kept(server: Server, name: str, tmp_path: Path) -> None:
    file = written(
        tmp_path / "items.jsonl",
        '{"id": "a", "text": "a dog barks", "metadata": {"legs": 4}}',
        "",
        '{"id": "b", "text": ',
        '["no", "object"]',
        '{"id": "c", "words": 3}',
        '{"id": "d", "text": "a cat meows"}',
        '{"id": "d", "text": "a cat purrs"}',
    )
    run = codewell(server, "ingest", file, "--collection", name)
    assert run.returncode == 3, run.stderr
    said = last_json(run)
    assert {key: said[key] for key in ("inserted", "updated", "rejected")} == {
        "inserted": 2,
        "updated": 1,
        "rejected": 3,
    }
    assert f"{file}: line 3: not JSON" in run.stderr
    assert f"{file}: line 4: not a JSON object" in run.stderr
    assert f"{file}: line 5: " in run.stderr
    stored = server.post(f"/collections/{name}/items/get", {"ids": ["a", "d"]})["items"]
    assert [item["text"] for item in stored] == ["a dog barks", "a cat purrs"], "of two lines the later one holds"


def test_batches_without_one_good_line_do_not_end_the_ingest(server: Server, name: str, tmp_path: Path) -> None:
    lines = ['{"id": "a"}', '{"id": "b", "text": 1}', '{"id": "c", "text": "good"}', '{"id": "d", "vector": [1, NaN]}']
    run = codewell(server, "ingest", written(tmp_path / "x.ndjson", *lines), "--collection", name, "--batch", "1")
    assert run.returncode == 3, run.stderr
    assert (last_json(run)["inserted"], last_json(run)["rejected"]) == (1, 3)
    assert [f"line {number}: " in run.stderr for number in (1, 2, 3, 4)] == [True, True, False, True]


def test_progress_is_json_lines_and_equal_items_are_left_alone(server: Server, name: str, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl.gz"
    file.write_bytes(gzip.compress(b"".join(b'{"key": %d, "body": "word%d"}\n' % (n, n) for n in range(500))))
    arguments = ("ingest", file, "--collection", name, "--id-field", "key", "--text-field", "body")
    first, second = codewell(server, *arguments), codewell(server, *arguments)
    assert (first.returncode, last_json(first)["inserted"]) == (0, 500), first.stderr
    assert (second.returncode, last_json(second)["unchanged"]) == (0, 500), second.stderr
    progress = [json.loads(line) for line in first.stderr.splitlines()]
    assert progress[-1]["done"] == progress[-1]["total"] == 500
    assert set(progress[-1]) == {"done", "total", "rate", "seconds_left"}


def test_a_matrix_alone_and_beside_lines(server: Server, name: str, tmp_path: Path) -> None:
    vectors = clustered(30, 8)
    matrix = tmp_path / "vectors.npy"
    np.save(matrix, vectors)
    run = codewell(server, "ingest", matrix, "--collection", name)
    assert (run.returncode, last_json(run)["inserted"]) == (0, 30), run.stderr
    assert server.get(f"/collections/{name}/items/7?include=vector")["vector"] == pytest.approx(vectors[7])

    lines = written(tmp_path / "items.jsonl", *(json.dumps({"id": f"t{n}", "text": f"text {n}"}) for n in range(30)))
    run = codewell(server, "ingest", lines, "--collection", name, "--vectors", matrix)
    assert (run.returncode, last_json(run)["inserted"]) == (0, 30), run.stderr
    hits = server.post("/search", {"collection": name, "id": "t3", "k": 1, "include": ["text"]})["hits"]
    assert [hit["id"] for hit in hits] == ["3"], "the row of the same vector"

    run = codewell(server, "ingest", written(lines, '{"id": "x"}'), "--collection", name, "--vectors", matrix)
    assert (run.returncode, "30 rows" in run.stderr) == (1, True)


def test_damaged_files_are_named_and_nothing_of_them_is_sent(server: Server, name: str, tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b'{"id": %d, "text": "word%d"}\n' % (n, n * n) for n in range(2_000)))
    np.save(tmp_path / "whole.npy", clustered(50, 8))
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    damaged = {
        "cut.jsonl.gz": packed[: len(packed) // 2],
        "plain.jsonl.gz": b'{"id": "a"}\n',
        "cut.npy": (tmp_path / "whole.npy").read_bytes()[:-40],
        "text.npy": b"not a matrix",
        "strings.npy": (tmp_path / "words.npy").read_bytes(),
    }
    for file, content in damaged.items():
        (tmp_path / file).write_bytes(content)
        run = codewell(server, "ingest", tmp_path / file, "--collection", name)
        assert run.returncode == 1, file
        assert str(tmp_path / file) in run.stderr
        assert "Traceback" not in run.stderr
    assert name not in [one["name"] for one in server.get("/collections")["collections"]]


def test_a_table_whose_columns_are_no_items_is_refused_and_a_bad_row_is_not_the_end(
    server: Server, name: str, tmp_path: Path
) -> None:
    vectors = pa.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 1.0, 1.0], None], pa.list_(pa.float64()))
    metadata = ['{"a": 1}', "{", "[]", None, None]
    items = pa.table({"key": [7, 8, 9, 10, 11], "vector": vectors, "metadata": metadata})
    file = tmp_path / "items.parquet"
    pq.write_table(items, file)
    run = codewell(server, "ingest", file, "--collection", name, "--id-field", "key")
    assert run.returncode == 3, run.stderr
    assert (last_json(run)["inserted"], last_json(run)["rejected"]) == (1, 4)
    assert [f"{file}: row {row}: " in run.stderr for row in range(5)] == [False, True, True, True, True]
    kept = server.get(f"/collections/{name}/items/7?include=vector&include=metadata")
    assert (kept["vector"], kept["metadata"]) == ([1.0, 0.0], {"a": 1})

    for table, problem in (
        (items, "has a column 'key'; an item has id, text, vector, metadata and no other"),
        (pa.table({"id": [1.5]}), "the column 'id' of"),
        (pa.table({"vector": ["1 2 3"]}), "holds string; wanted are lists of numbers"),
    ):
        pq.write_table(table, file)
        with pytest.raises(UnreadableFile, match=problem):
            Source(file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UnreadableFile, match=r"items.parquet cannot be read as Parquet"):
        Source(file)


def test_a_small_table_that_stands_for_gigabytes_is_read_row_by_row(tmp_path: Path) -> None:
    file = tmp_path / "bomb.parquet"
    rows = 4_000
    one = pa.array(["x" * 1_000_000])
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), one)
    pq.write_table(pa.table({"id": np.arange(rows), "text": texts}), file)
    assert file.stat().st_size < 2_000_000
    source, before = Source(file), pa.total_allocated_bytes()
    lines = source.lines()
    assert [next(lines).item for _ in range(2)] == [{"id": n, "text": "x" * 1_000_000} for n in range(2)]
    assert (source.total, pa.total_allocated_bytes() - before < 50_000_000) == (rows, True)

    pq.write_table(pa.table({"vector": pa.array([np.zeros(100_000, np.float32)] * 3)}), file)
    assert file.stat().st_size < 50_000
    with pytest.raises(UnreadableFile, match="have 100000 numbers, as its groups of rows say; 65536 are most"):
        Source(file)
    pq.write_table(pa.table({"vector": pa.array([np.zeros(50_000, np.float32)] * 300)}), file)
    lines = Source(file).lines()
    before = pa.total_allocated_bytes()
    assert next(lines).size == 266_668
    assert pa.total_allocated_bytes() - before < 40_000_000, "80 rows of 50,000 numbers, not 300"


def test_wrong_usage_is_2(server: Server, tmp_path: Path) -> None:
    wrong = [("ingest", tmp_path / "none.jsonl"), ("ingest", written(tmp_path / "items.csv", "a,b"))]
    plots = [("train", "--plot", tmp_path / "p", "--no-wait"), ("train", "--plot", tmp_path / "items.csv" / "p")]
    for arguments in (
        *wrong,
        ("search", "x", "--index", "magic"),
        ("search", "x", "--filter", "{wet}"),
        ("fly",),
        ("train", "--epochs", "0"),
        *plots,
    ):
        run = codewell(server, *arguments)
        assert run.returncode == 2, arguments
        assert "Usage:" in run.stderr


def test_ctrl_c_leaves_what_was_committed_and_says_how_many(server: Server, name: str, tmp_path: Path) -> None:
    file = written(tmp_path / "items.jsonl", *(json.dumps({"id": n, "text": f"word{n}"}) for n in range(20_000)))
    command = [*CODEWELL, "ingest", str(file), "--collection", name, "--batch", "4"]
    with subprocess.Popen(
        command, env=environment(server.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    kept = json.loads(out)["inserted"]
    assert process.returncode == 130, error
    assert f"stopped: {kept:,} items are committed" in error
    assert kept <= server.get(f"/collections/{name}")["items"] <= kept + 4 < 20_000


# train, search, status


def test_a_training_is_followed_to_its_certificate(server: Server, name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", clustered(300, 8))
    assert codewell(server, "ingest", tmp_path / "vectors.npy", "--collection", name).returncode == 0
    folder = tmp_path / "new" / "pictures"
    run = codewell(
        server, "train", "--collection", name, "--bytes", "4", "--epochs", "3", "--seed", "7", "--plot", folder
    )
    assert run.returncode == 0, run.stderr
    said = last_json(run)
    assert (said["pictures"], list(folder.iterdir())) == ([], [])  # where there are some: tests/test_pictures.py
    *_, last, why = run.stderr.splitlines()
    assert (json.loads(last)["done"], why) == (1, "no pictures: CODEWELL_PICTURES is false")
    certificate = said["certificate"]
    assert (said["state"], certificate["code_bytes"], certificate["seed"]) == ("succeeded", 4, 7)
    assert certificate["recall@10"]["faiss"]["rescore"] > 0.9
    (row,) = (
        one for one in json.loads(codewell(server, "status", "--json").stdout)["collections"] if one["name"] == name
    )
    assert row["certificate"] == certificate
    assert " 300 " in codewell(server, "status").stdout


def test_another_kind_of_codec_on_request(server: Server, name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", clustered(300, 8))
    assert codewell(server, "ingest", tmp_path / "vectors.npy", "--collection", name).returncode == 0
    run = codewell(server, "train", "--collection", name, "--kind", "residual", "--bytes", "3")
    certificate = last_json(run)["certificate"]
    assert (certificate["codec"]["kind"], certificate["codec"]["steps"], certificate["code_bytes"]) == (
        "residual",
        3,
        3,
    )
    assert certificate["recall@10"]["faiss"]["rescore"] > 0.9
    assert server.get(f"/collections/{name}")["codec"]["kind"] == "dense"  # its own stays what later trainings use
    wrong = codewell(server, "train", "--collection", name, "--factory", "PQ4x8", "--bytes", "3")
    assert (wrong.returncode, "not with --kind or --bytes" in " ".join(wrong.stderr.split())) == (2, True)
    wrong = codewell(server, "train", "--collection", name, "--factory", "Flat")
    assert (wrong.returncode, "'Flat' is none that is allowed: an optional OPQm_d" in wrong.stderr) == (1, True)
    wrong = codewell(server, "train", "--collection", name, "--kind", "residue")
    assert (wrong.returncode, "--kind" in wrong.stderr) == (2, True)


def test_a_training_that_cannot_be_is_1_and_one_left_alone_prints_its_id(server: Server, name: str) -> None:
    items = [{"id": str(number), "vector": [1, number % 9]} for number in range(120)]
    server.post("/ingest", {"collection": name, "items": items[:1]})
    run = codewell(server, "train", "--collection", name)
    assert (run.returncode, "training needs 100" in run.stderr) == (1, True)
    server.post("/ingest", {"collection": name, "items": items})
    run = codewell(server, "train", "--collection", name, "--no-wait", "--epochs", "1")
    assert (run.returncode, server.finished(run.stdout.strip())["state"]) == (0, "succeeded")


def test_hits_come_best_first_and_cannot_steer_the_terminal(server: Server, name: str) -> None:
    texts = {"both": "the cat\x1b[31m purrs", "cat": "a cat [bold]sits[/bold] " + "far " * 60, "none": "an ocean"}
    server.post("/ingest", {"collection": name, "items": [{"id": key, "text": text} for key, text in texts.items()]})
    run = codewell(server, "search", "cat purrs", "--collection", name, "-k", "3")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert [line.split()[2] for line in lines] == ["both", "cat", "none"]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in run.stdout
    assert "[bold]" in lines[1]
    answer = json.loads(codewell(server, "search", "cat purrs", "--collection", name, "--json").stdout)
    assert [hit["id"] for hit in answer["hits"]] == ["both", "cat", "none"]
    server.client.patch(f"/collections/{name}/items/none", json={"metadata": {"wet": True}})
    run = codewell(server, "search", "cat purrs", "--collection", name, "--filter", '{"wet": true}')
    assert [line.split()[2] for line in run.stdout.splitlines()] == ["none"]
    run = codewell(server, "search", "cat", "--collection", f"no-{name}")
    assert (run.returncode, "there is no collection" in run.stderr) == (1, True)


def test_status_of_a_server_and_of_none(server: Server) -> None:
    run = codewell(server, "status", "--json")
    said = json.loads(run.stdout)
    assert (run.returncode, said["ready"], said["url"]) == (0, True, server.url)
    run = codewell(None, "status")
    assert run.returncode == 1
    assert "no server at http://127.0.0.1:1: start one with `codewell serve`" in run.stderr
    run = codewell(None, "status", "--json")
    assert (run.returncode, json.loads(run.stdout)["ready"]) == (1, False)


def test_status_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'faiss', 'sqlalchemy', 'fastapi', 'numpy'}"
    code = f"import sys, service.cli, service.settings; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_every_command_explains_itself() -> None:
    for command in ("serve", "ingest", "train", "search", "status", "build"):
        run = codewell(None, command, "--help")
        assert run.returncode == 0
        assert len(run.stdout) > 300


# serve


def test_a_server_that_cannot_start_says_why_in_one_line(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path / "file", "no folder")
    (tmp_path / "bad").mkdir()
    written(tmp_path / "bad" / "codewell.db", "no database " * 500)
    port = server.url.rpartition(":")[2]
    for arguments, reason in {
        ("--port", port): f"port {port} of 127.0.0.1 is in use",
        ("--port", "0", "--data-dir", str(file)): f"the data folder {file} cannot be used",
        ("--port", "0", "--data-dir", str(tmp_path / "bad")): "is not a database",
        ("--port", "70000"): "CODEWELL_PORT",
        ("--log-level", "loud"): "CODEWELL_LOG_LEVEL",
        ("--port", "0", "--host", "no.such.host.invalid"): "is no address of this machine",
    }.items():
        run = codewell(None, "serve", *arguments)
        assert run.returncode == 1, arguments
        assert reason in run.stderr
        assert len(run.stderr.splitlines()) == 1, run.stderr


def test_answers_are_not_held_back_for_40_ms() -> None:
    with serving._listening(Settings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP, "asyncio sets TCP_NODELAY on no other"


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_port_0_takes_a_free_one_which_is_printed(tmp_path: Path, ended_by: signal.Signals) -> None:
    log = tmp_path / "log"
    command = [*CODEWELL, "serve", "--port", "0", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data")]  # noqa: S104
    everyone = environment("") | {"CODEWELL_AUTH": "off"}
    with log.open("w") as out, subprocess.Popen(command, env=everyone, stdout=out, stderr=out) as process:
        wait(lambda: "listens on" in log.read_text() or process.poll() is not None)
        said = log.read_text()
        port = int(said.partition("http://0.0.0.0:")[2].split()[0])
        assert httpx.get(f"http://127.0.0.1:{port}/collections").json() == {"collections": []}
        process.send_signal(ended_by)
        assert process.wait(20) == 0, log.read_text()
    assert "WARNING: 0.0.0.0 can be reached from other machines, and CODEWELL_AUTH is off" in said


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


DENSE = {"kind": "dense", "latents": 8, "latent_type": "int8", "decoder_hidden": [16]}
PQ = {"kind": "faiss", "factory": "PQ8x8"}


@pytest.mark.parametrize(
    ("own", "kind", "size", "most", "asked"),
    [
        (DENSE, None, None, None, None),
        (DENSE, None, 4, None, {"kind": "dense", "decoder_hidden": [16], "bytes": 4}),
        (DENSE, None, None, 4, {"kind": "dense", "decoder_hidden": [16], "bytes": 4}),
        (DENSE, "residual", None, 4, {"kind": "residual", "bytes": 4}),
        (DENSE, "residual", 3, 4, {"kind": "residual", "bytes": 3}),
        ({"kind": "sparse", "latents": 64, "k": 8}, None, 12, None, {"kind": "sparse", "latents": 64, "bytes": 12}),
        ({"kind": "auto"}, None, None, 4, None),
        ({"kind": "auto"}, None, 4, None, {"kind": "dense", "bytes": 4}),
        (PQ, None, None, 4, None),
        (PQ, "binary", None, 4, {"kind": "binary", "bytes": 4}),
    ],
)
def test_a_training_asks_for_the_collection_s_own_codec_but_for_what_was_named(
    own: Any, kind: str | None, size: int | None, most: int | None, asked: Any
) -> None:
    assert asked_codec(own, kind, size, most) == asked
