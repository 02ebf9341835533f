"""The benchmark of recall per byte: its bound, its rows, and that it goes on where it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import recall_per_byte
from benchmarks.recall_per_byte import CutFrom, gaussian_bound
from models import Fitted, Metric, ResidualConfig, Vectors, fit
from tests.conftest import clustered


def test_the_bound_is_that_of_rate_distortion_theory() -> None:
    white = np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32)
    assert gaussian_bound(white, 16) == pytest.approx(2 ** (-2 * 16 / 8), rel=0.01)
    # Of two components of which one never varies, all bits go to the other.
    flat = np.hstack((white[:, :1], np.zeros_like(white[:, :1])))
    assert gaussian_bound(flat, 3) == pytest.approx(2**-6, rel=0.01)


def test_rows_are_measured_once_and_say_what_is_kept(
    wordnet: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "base.npy", wordnet[:1800])
    np.save(tmp_path / "asked.npy", wordnet[1800:])
    files = ["--base", str(tmp_path / "base.npy"), "--queries", str(tmp_path / "asked.npy")]
    command = ["recall_per_byte", *files, "--bytes", "16", "--threads", "1", "--only", ",SQ", "--json"]
    monkeypatch.setattr("sys.argv", [*command, str(tmp_path / "rows.json")])
    recall_per_byte.main()
    first = capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["split"], row["code"], row["code bytes"]) for row in rows] == [
        (split, code, 16) for split in ("late", "all") for code in ("PCAR32,SQ4", "PCAR16,SQ8")
    ]
    for row in rows:
        # More numbers of four bits each keep more than half as many of eight.
        assert 0.1 < float(row["as FAISS"]) <= float(row["sphere"]) + 0.02 < float(row["in 100"])
        assert 0.2 < float(row["bound"]) < float(row["error"]) < 0.9
    assert float(rows[2]["sphere"]) > float(rows[3]["sphere"])
    monkeypatch.setattr(recall_per_byte, "measured", None)  # nothing is left to measure
    recall_per_byte.main()
    assert capsys.readouterr().out == first


def test_cut_codes_are_the_first_bytes_of_those_of_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, trained, cuts = clustered(600, 8), list[object](), CutFrom(4)

    def counted(config: ResidualConfig, *given: Any) -> Fitted:
        trained.append(config)
        return fit(config, *given)

    monkeypatch.setattr(recall_per_byte, "fit", counted)
    codes = {size: cuts(vectors, Metric.L2, size) for size in (1, 3)}
    assert (trained, [code.code_bytes for code in codes.values()]) == ([ResidualConfig(4)], [1, 3])
    one, three = (code.encode(vectors) for code in codes.values())
    assert np.array_equal(three[:, :1], one)
    errors = [np.square(vectors - code.decode(code.encode(vectors))).mean() for code in codes.values()]
    assert errors[1] < 0.2 * errors[0]
    assert codes[1].table_bytes < codes[3].table_bytes
