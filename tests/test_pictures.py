"""Pictures with a job: drawn, kept, read over HTTP, gone with the collection; and why there are none."""

import sqlite3
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from models import Fitted, Metric, Portrait, TrainingConfig, fit
from service import pictures
from tests.conftest import Server, clustered, started_codec
from tests.test_api_jobs import fill
from tests.test_api_problems import problem
from tests.test_cli import codewell, last_json
from tests.test_portrait import CONFIGS

pytest.importorskip("matplotlib", reason="needs the extra: plots")

DATA = clustered(100, 8)


def fitted() -> Fitted:
    return fit(CONFIGS["dense"][0], DATA, Metric.L2, TrainingConfig(epochs=1))


def test_a_job_keeps_its_pictures_until_its_collection_goes(new_server: Callable[..., Server], tmp_path: Path) -> None:
    from matplotlib.image import imread

    server, name = new_server(PICTURES="true"), "drawn"
    fill(server, name, clustered(300, 8))
    ran = codewell(server, "train", "--collection", name, "--epochs", "1", "--plot", tmp_path / "new" / "pictures")
    said = last_json(ran)
    job = server.get(f"/jobs/{said['job']}")
    assert said["pictures"] == [str(tmp_path / "new" / "pictures" / f"{one}.png") for one in job["result"]["pictures"]]
    assert job["result"]["pictures"] == ["loss", "spectrum", "size", "map", "field"]
    assert job["result"]["no_pictures"] is None
    for picture in job["result"]["pictures"]:
        answer = server.client.get(f"/jobs/{job['id']}/pictures/{picture}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert (tmp_path / "new" / "pictures" / f"{picture}.png").read_bytes() == answer.content
        height, width, _ = (pixels := np.asarray(imread(BytesIO(answer.content)))).shape
        assert (width > 700, height > 500) == (True, True)
        drawn = (pixels[:, :, :3] < 0.9).any(axis=2).mean()
        assert 0.005 < drawn < 0.5, f"{picture} is {drawn:.1%} ink"
    loss, spectrum = (server.client.get(f"/jobs/{job['id']}/pictures/{one}").content for one in ("loss", "spectrum"))
    assert loss != spectrum

    problem(server.client.get(f"/jobs/{job['id']}/pictures/bits"), 404, "name", "'bits'", "loss, spectrum, size")
    problem(server.client.get("/jobs/none/pictures/loss"), 404, "id", "'none'")
    kept = "SELECT count(*) FROM pictures WHERE job_id = ?"
    with sqlite3.connect(server.data_dir / "codewell.db") as database:
        assert database.execute(kept, (job["id"],)).fetchone() == (5,)
        server.client.delete(f"/collections/{name}")
        assert database.execute(kept, (job["id"],)).fetchone() == (0,)
    database.close()
    problem(server.client.get(f"/jobs/{job['id']}/pictures/loss"), 404, "id", job["id"])


def test_a_job_without_pictures_says_so(server: Server, name: str) -> None:
    fill(server, name, DATA)
    job = server.post(f"/collections/{name}/train", {"training": {"epochs": 10_000, "learning_rate": 1e-6}}, 202)
    problem(server.client.get(f"/jobs/{job['id']}/pictures/loss"), 404, "name", "it has: none")
    server.client.delete(f"/jobs/{job['id']}")
    assert server.finished(job["id"])["state"] in ("cancelled", "succeeded")


def test_what_was_drawn_is_read_back(tmp_path: Path) -> None:
    names, reason = pictures.draw(fitted(), DATA, DATA[:9], tmp_path)
    assert (names, reason) == (("loss", "spectrum", "size", "map"), None)
    read = pictures.read(list(names), tmp_path)
    assert {name: png[:4] for name, png in read.items()} == dict.fromkeys(names, b"\x89PNG")


def test_without_matplotlib_the_reason_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.portrait.can_draw", lambda: False)
    names, reason = pictures.draw(fitted(), DATA, DATA[:9], tmp_path)
    assert (names, reason) == ((), "matplotlib is not installed: pip install 'codewell[plots]'")
    assert pictures.read([], tmp_path) == {}


def test_a_training_does_not_fail_with_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Portrait, "draw", fail)
    names, reason = pictures.draw(fitted(), DATA, DATA[:9], tmp_path)
    assert (names, reason) == ((), "drawing failed: OSError: no space left on device")
    assert "no space left" in caplog.text


def test_a_codec_of_no_known_kind_has_what_every_codec_has(tmp_path: Path) -> None:
    class Other:
        """A codec that is no autoencoder of ours."""

        def __init__(self) -> None:
            own = started_codec(CONFIGS["dense"][0], Metric.L2)
            self.kind, self.dim, self.code_bytes = "other", own.dim, own.code_bytes
            self.encode, self.decode, self.stored_latents = own.encode, own.decode, own.stored_latents

    drawn = Portrait(Other(), fitted().run, DATA, DATA[:9]).draw(tmp_path)  # type: ignore[arg-type]
    assert list(drawn) == ["loss", "spectrum", "size", "map"]
