"""A process that only searches codes of codewords starts without torch, and imports it when it has to encode."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cores import share_cores
from service.settings import Settings
from tests.conftest import Server, clustered


def holds_torch(server: Server) -> bool:
    return "libtorch" in Path(f"/proc/{server.process.pid}/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what a process has mapped")
def test_a_server_searches_residual_codes_without_torch(
    new_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")  # each process tells in the log how its threads wait
    server = new_server()
    vectors = clustered(300, 8)
    server.post(
        "/collections", {"name": "c", "dimension": 8, "codec": {"kind": "residual", "bytes": 4, "beam": 2}}, 201
    )
    items = [{"id": str(number), "vector": vector.tolist()} for number, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": "c", "items": items})
    generation = server.trained("c")["generation"]
    spins = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", server.log.read_text())
    assert "0" in spins, "the job's, beside searches"
    assert {"0"} < set(spins), "the server's own are as they would be"
    asked = {"collection": "c", "vector": vectors[7].tolist(), "k": 2}
    before = server.post("/search", asked)
    server.stop()

    again = new_server()
    for stage in ("shortlist", "refine", "rescore"):
        for index in ("faiss", "buckets"):
            answer = again.post("/search", asked | {"stage": stage, "index": index})
            assert answer["generation"] == generation
            assert "7" in {hit["id"] for hit in answer["hits"]}
    assert again.post("/search", asked)["hits"] == before["hits"]
    assert not holds_torch(again)

    again.post("/ingest", {"collection": "c", "items": [{"id": "new", "vector": (vectors[7] * 3).tolist()}]})
    assert "new" in {hit["id"] for hit in again.post("/search", asked)["hits"]}
    assert holds_torch(again)


@pytest.mark.parametrize(("threads", "given", "used"), [(1, "5", "1"), (0, "5", "5"), (6, None, "6")])
def test_the_setting_of_threads_goes_before_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int, given: str | None, used: str
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, given or "1")
        if given is None:
            monkeypatch.delenv(name)
    share_cores(Settings(data_dir=tmp_path, threads=threads))
    assert os.environ["OMP_NUM_THREADS"] == used
    assert os.environ["OPENBLAS_NUM_THREADS"] == (given or "1")
    said = "import torch; print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert 1 <= int(done.stdout) <= int(used)  # no more than there are cores


def test_everything_that_models_offers_can_be_imported_and_trains_without_the_compiler() -> None:
    said = """
import models, numpy, sys
print("torch" in sys.modules)
[getattr(models, name) for name in models.__all__]
vectors = numpy.random.default_rng(0).standard_normal((300, 8), numpy.float32)
for config in (models.DenseConfig(4), models.ResidualConfig(2)):
    models.fit(config, vectors, models.Metric.L2, models.TrainingConfig(epochs=2))
print("torch.optim" in sys.modules, "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue False\n"


def test_no_module_hides_what_is_offered_under_its_name() -> None:
    import models
    from models import LATER

    assert not set(LATER) & set(LATER.values())
    assert all(getattr(models, name).__module__.startswith("models.") for name in LATER)
