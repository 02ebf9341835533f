"""Inputs and a built folder in S3, on moto's server over real HTTP. `make s3` runs it."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.build_files import VECTORS, N, npy, table
from tests.conftest import start_server
from tests.test_build import FAST, command, files

HERE = find_spec("s3fs") is not None and find_spec("moto") is not None
pytestmark = [
    pytest.mark.s3,
    pytest.mark.skipif(not HERE, reason="needs s3fs and moto: `make s3` installs them"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An empty bucket, as s3fs knows it; this process's environment, and those that it starts, reach it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path_factory.mktemp("s3") / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log)
    given = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-word",
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in given.items():
            environment.setenv(name, value)
        import s3fs

        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < end
            time.sleep(0.1)
        system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        system.mkdir("things")
        yield system
    server.terminate()
    server.wait()


def built(*arguments: str | Path) -> Any:
    """What the command prints, in a process of its own."""
    run = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def stored(bucket: Any, at: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{at}/"): bucket.cat_file(name) for name in bucket.find(at)}


def test_a_build_there_is_the_build_here(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    npy(tmp_path / "in" / "a.npy", VECTORS[:600])
    table(tmp_path / "in" / "b.parquet", VECTORS[600:])
    bucket.put(str(tmp_path / "in"), "things/in", recursive=True)
    told = built("s3://things/in/*", "--output", "s3://things/words", *FAST)
    assert (told["items"], told["output"]) == (N, "s3://things/words")
    built(f"{tmp_path}/in/*", "--output", tmp_path / "out", *FAST)
    here, there = files(tmp_path / "out"), stored(bucket, "things/words")
    for name in ("codec.safetensors", "index", "rows.npy"):
        (one,), (other,) = ([held[path] for path in held if path.endswith(name)] for held in (here, there))
        assert one == other
    assert b"secret-word" not in b"".join(there.values())
    assert built("s3://things/in/*", "--output", "s3://things/words", *FAST)["codec"] == "unchanged"
    server = start_server(tmp_path / "log", "--generation", "s3://things/words")
    assert server.post("/search", {"vector": VECTORS[7].tolist(), "k": 1})["hits"][0]["id"] == "7"
    assert server.stop() == 0


def test_killed_at_any_moment_it_ends_whole(bucket: Any, tmp_path: Path) -> None:
    source = npy(tmp_path / "v.npy", VECTORS)
    began = time.monotonic()
    built(source, "--output", "s3://things/whole", *FAST)
    seconds = time.monotonic() - began
    for moment in np.linspace(0.3, 0.98, 6):  # the upload is at the end
        at = f"things/killed-{moment:.2f}"
        building = subprocess.Popen(
            command(source, "--output", f"s3://{at}", *FAST), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moment * seconds)
        building.send_signal(signal.SIGKILL)
        building.wait()
        assert built(source, "--output", f"s3://{at}", *FAST)["items"] == N
        assert stored(bucket, at).keys() == stored(bucket, "things/whole").keys()
        for name, content in stored(bucket, "things/whole").items():
            if name != "manifest.json":  # which has times of change
                assert bucket.cat_file(f"{at}/{name}") == content
