"""Pictures: files are written, the numbers in them are right, and matplotlib's global state is left alone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import plots
from tests.conftest import clustered

pytest.importorskip("matplotlib", reason="needs the extra: plots")

RNG = np.random.default_rng(0)
DATA = clustered(300, 12)
BITS = np.random.default_rng(1).integers(0, 256, (200, 4), np.uint8)
DRAWINGS: dict[str, Callable[[Path], Any]] = {
    "loss": lambda path: plots.loss_curve(path, [1.0, 0.5, 0.4], [0.9, 0.6, 0.7], 1),
    "spectrum": lambda path: plots.spectrum(path, DATA, DATA * 0.9, 3),
    "size": lambda path: plots.error_by_size(path, {"dense": {8: 0.5, 4: 0.6}, "binary": {8: 0.4}}),
    "activity": lambda path: plots.latent_activity(path, np.array([3, 0, 1]), 4),
    "bits": lambda path: plots.bit_balance(path, BITS),
    "field": lambda path: plots.denoising_field(path, DATA[:, :2], DATA[:9, :2], DATA[:9, :2] * 0.5),
    "map": lambda path: plots.code_map(path, DATA),
    "images": lambda path: plots.images(path, np.zeros((5, 4, 4)), 3, "Drawn"),
}


def xs(line: Any) -> list[float]:
    return [float(value) for value in line.get_xdata()]


def ys(line: Any) -> list[float]:
    return [float(value) for value in line.get_ydata()]


@pytest.mark.parametrize("name", list(DRAWINGS))
def test_a_picture_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"{name}.png"
    DRAWINGS[name](path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 2000


def test_nothing_is_shown_and_nothing_global_changes(tmp_path: Path) -> None:
    program = f"""
import sys
import numpy as np
import models, models.plots
assert not any(name.startswith("matplotlib") for name in sys.modules), "imported too early"
import matplotlib
before = dict(matplotlib.rcParams)
models.plots.bit_balance(__import__("pathlib").Path({str(tmp_path / "x.png")!r}), np.zeros((3, 2), np.uint8))
assert dict(matplotlib.rcParams) == before
# Writing a PNG may import pyplot, which then must know of no figure.
assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert ran.returncode == 0, ran.stderr


def test_the_curve_shows_every_epoch_and_the_one_kept(tmp_path: Path) -> None:
    axes = plots.loss_curve(tmp_path / "x.png", [9.0, 0.5, 0.4], [0.9, 0.6, 0.7], 1)
    held, kept = axes.get_lines()
    assert ys(held) == [0.9, 0.6, 0.7]
    assert (xs(kept), ys(kept)) == ([1], [0.6])
    (loss,) = axes.figure.axes[1].get_lines()
    assert ys(loss) == [0.5, 0.4]


def test_the_spectrum_is_that_of_the_data_and_of_what_is_lost(tmp_path: Path) -> None:
    centred = DATA - DATA.mean(axis=0)
    _, singular, axes_ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    projected = centred @ axes_[:3].T @ axes_[:3] + DATA.mean(axis=0)
    data, lost, pca, _ = plots.spectrum(tmp_path / "x.png", DATA, projected, 3).get_lines()
    np.testing.assert_allclose(ys(data), singular**2 / len(DATA), rtol=1e-3)
    # A projection on three axes loses nothing of those, and of the others what PCA loses.
    assert max(ys(lost)[:3]) < 1e-5 * singular[0] ** 2 / len(DATA)
    np.testing.assert_allclose(ys(lost)[3:], ys(pca)[3:], rtol=1e-3)
    assert np.isnan(ys(pca)[:3]).all()


def test_sizes_are_drawn_in_their_order(tmp_path: Path) -> None:
    dense, binary = plots.error_by_size(tmp_path / "x.png", {"dense": {8: 0.5, 4: 0.6}, "binary": {8: 0.4}}).get_lines()
    assert (xs(dense), ys(dense)) == ([4, 8], [0.6, 0.5])
    assert (binary.get_label(), ys(binary)) == ("binary", [0.4])


def test_activity_counts_the_dead(tmp_path: Path) -> None:
    axes = plots.latent_activity(tmp_path / "x.png", np.array([0, 2, 0, 1]), 2)
    assert ys(axes.get_lines()[0]) == [1.0, 0.5, 0.0, 0.0]
    assert "2 of 4 never active (50.0%)" in axes.get_title(loc="left")


def test_balance_counts_every_bit_once(tmp_path: Path) -> None:
    axes = plots.bit_balance(tmp_path / "x.png", np.array([[0b0000_1111], [0b0000_0011]], np.uint8))
    heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
    assert sum(heights) == 8
    assert (heights[0], heights[20], heights[-1]) == (4, 2, 2)
    assert "0.375" in axes.get_title(loc="left")


def test_arrows_start_at_the_points_and_are_the_steps(tmp_path: Path) -> None:
    points = RNG.standard_normal((9, 2))
    axes = plots.denoising_field(tmp_path / "x.png", DATA[:, :2], points, points * 0.25)
    arrows: Any = next(part for part in axes.collections if hasattr(part, "U"))
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], axis=1), -0.75 * points)
    np.testing.assert_allclose(arrows.XY, points)


def test_the_map_is_the_leading_plane_and_names_the_ten_most_frequent(tmp_path: Path) -> None:
    (dots,) = plots.code_map(tmp_path / "x.png", DATA).collections
    drawn = np.asarray(dots.get_offsets())
    singular = np.linalg.svd(DATA - DATA.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(drawn.std(axis=0), singular[:2] / np.sqrt(len(DATA)), rtol=1e-3)
    labels = [f"label {min(i // 20, 12):02}" for i in range(300)]
    parts = plots.code_map(tmp_path / "y.png", DATA, labels).collections
    assert str(parts[0].get_label()) == "others"
    assert len(parts) == 11
    assert sum(len(np.asarray(part.get_offsets())) for part in parts) == 300


def test_images_stand_in_rows(tmp_path: Path) -> None:
    pictures = np.arange(5)[:, None, None] / 10 * np.ones((5, 2, 3))
    (image,) = plots.images(tmp_path / "x.png", pictures, 3, "Drawn").get_images()
    sheet = np.asarray(image.get_array())
    assert sheet.shape == (4, 9)
    np.testing.assert_allclose(sheet[::2, ::3], [[0, 0.1, 0.2], [0.3, 0.4, 0]], atol=1e-6)
