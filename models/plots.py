"""Pictures of trained autoencoders: arrays in, a PNG out. Knows no model, no training and no screen.

Needs the extra `plots` (matplotlib), which is imported only when something is drawn. Each function writes the picture
to `path` and returns its axes, which hold the numbers drawn; nothing of matplotlib's global state is changed.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]
BLUE, ORANGE, GREEN, RED, GREY = "#1f6fb4", "#e07b1a", "#2f9e5f", "#c83a3a", "#8a8f98"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#7b5bb5", "#8c5a3c", "#d16ba5", "#555a60", "#a8a43a", "#3aa8b8")
PALETTE = 128
"""Colours of a picture."""
LONGEST = 3.0
"""Times as long as wide a plane is drawn in one scale, at most."""


class Picture:
    """One figure with one pair of axes; written, when the block ends, to the path it was given."""

    def __init__(self, path: Path, title: str, x: str, y: str, size: tuple[float, float] = (7.0, 4.4)) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.path = path
        self.figure = Figure(figsize=size, dpi=130, layout="constrained")
        FigureCanvasAgg(self.figure)
        self.axes: Axes = self.figure.add_subplot()
        self.axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
        self.axes.set_xlabel(x)
        self.axes.set_ylabel(y)
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.grid(color="#e4e6ea", linewidth=0.8)
        self.axes.set_axisbelow(True)

    def __enter__(self) -> "Axes":
        return self.axes

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            from PIL import Image

            drawn = BytesIO()
            self.figure.savefig(drawn, format="png")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A picture of few colours: a palette takes a third of the bytes, and looks the same.
            with Image.open(drawn) as image:
                image.convert("RGB").quantize(PALETTE).save(self.path, format="png", optimize=True)


def loss_curve(
    path: Path, loss: Sequence[float], held_out: Sequence[float], best: int, unit: str = "share of variance"
) -> "Axes":
    """The mean loss and the held-out error of epochs 0 (the start), 1, 2, ..., and which of them was kept."""
    with Picture(path, "Training", "epoch", f"held-out error ({unit})") as axes:
        numbers = np.arange(len(held_out))
        axes.plot(numbers, held_out, color=BLUE, marker="o", markersize=3.5, label="held-out error")
        axes.plot(best, held_out[best], "o", color=BLUE, markersize=10, fillstyle="none", label=f"kept: epoch {best}")
        axes.locator_params(axis="x", integer=True)
        # The loss may have other units (penalties, likelihoods): an axis of its own.
        other = axes.twinx()
        other.plot(numbers[1:], loss[1:], color=ORANGE, linestyle="--", marker=".", label="training loss")
        other.set_ylabel("training loss", color=ORANGE)
        other.spines["top"].set_visible(False)
        lines = [*axes.get_lines(), *other.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], frameon=False, loc="upper right")
    return axes


def spectrum(path: Path, data: Array, restored: Array, latents: int) -> "Axes":
    """Variance of (n, D) vectors along their principal axes, and what of it is left after the code; both falling."""
    centred = data - data.mean(axis=0)
    variances, axes_ = np.linalg.eigh(np.asarray(centred.T @ centred / len(data), np.float64))
    order = np.argsort(-variances)
    lost = np.square((data - restored) @ axes_[:, order]).mean(axis=0)
    least = max(float(variances.max()), 1e-30) * 1e-9
    variances = np.maximum(variances[order], least)
    lost = np.maximum(lost, least)
    with Picture(path, "What the code keeps of each principal axis", "principal axis", "variance") as axes:
        ranks = np.arange(1, len(variances) + 1)
        axes.plot(ranks, variances, color=GREY, linewidth=2, label="data")
        axes.plot(ranks, lost, color=BLUE, label="lost by the code")
        lost_by_pca = np.where(ranks > latents, variances, np.nan)
        axes.plot(ranks, lost_by_pca, color=ORANGE, linestyle="--", label=f"lost by PCA with {latents} axes")
        if latents < len(variances):
            axes.axvline(latents + 0.5, color=ORANGE, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        # An axis in which vectors hardly vary, such as one that their unit length takes away, would squeeze all others.
        axes.set_ylim(bottom=min(np.quantile(variances, 0.05), np.quantile(lost, 0.05)) / 8)
        axes.legend(frameon=False, loc="lower left")
    return axes


def error_by_size(path: Path, errors: Mapping[str, Mapping[int, float]]) -> "Axes":
    """Reconstruction error (share of variance) against bytes of code, a line a kind: {kind: {bytes: error}}."""
    with Picture(path, "Reconstruction error by size of code", "bytes of code", "error (share of variance)") as axes:
        for (name, points), colour in zip(errors.items(), COLOURS, strict=False):
            sizes = sorted(points)
            axes.plot(sizes, [points[size] for size in sizes], marker="o", markersize=4.5, color=colour, label=name)
        sizes = sorted({size for points in errors.values() for size in points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    return axes


def latent_activity(path: Path, counts: Array, vectors: int) -> "Axes":
    """Share of `vectors` that each latent is active for, from (m,) counts, falling; the title counts the dead."""
    share = np.sort(counts / vectors)[::-1]
    dead = int((share == 0).sum())
    title = f"Latents over {vectors:,} vectors: {dead:,} of {len(share):,} never active ({dead / len(share):.1%})"
    with Picture(path, title, "latent, most active first", "share of vectors it is active for") as axes:
        ranks = np.arange(1, len(share) + 1)
        axes.fill_between(ranks, share, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(ranks, share, color=BLUE)
        axes.axhline(share.mean(), color=ORANGE, linestyle="--", label=f"mean {share.mean():.3g}")
        axes.set_xlim(1, max(2, len(share)))
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    return axes


def bit_balance(path: Path, codes: Array) -> "Axes":
    """How often each bit of (n, B) uint8 codes is set, as a histogram over the bits; half is best."""
    share = np.unpackbits(codes, axis=1, bitorder="little").mean(axis=0)
    title = f"Bit balance: {len(share)} bits, mean distance from one half {np.abs(share - 0.5).mean():.3f}"
    with Picture(path, title, "share of codes in which a bit is set", "bits") as axes:
        axes.hist(share, bins=np.linspace(0, 1, 41).tolist(), color=BLUE, edgecolor="white", linewidth=0.5)
        axes.axvline(0.5, color=ORANGE, linestyle="--", label="half: the most a bit can say")
        axes.set_xlim(0, 1)
        axes.legend(frameon=False)
    return axes


def denoising_field(
    path: Path, data: Array, points: Array, restored: Array, names: tuple[str, str] = ("", "")
) -> "Axes":
    """The arrows r(x) - x from (g, 2) points around (n, 2) data; an arrow has a quarter of the step's length.

    Both directions have one scale unless the data is far longer in one of them.
    """
    with Picture(path, "r(x) - x points to where the data lies", *names, (6.2, 6.0)) as axes:
        axes.scatter(data[:, 0], data[:, 1], s=4, color=ORANGE, alpha=0.5, linewidth=0, label="data")
        step = restored - points
        axes.quiver(
            points[:, 0], points[:, 1], step[:, 0], step[:, 1],
            angles="xy", scale_units="xy", scale=4, width=0.003, color=BLUE, label="r(x) - x, a quarter of it",
        )  # fmt: skip
        width, height = np.ptp(np.concatenate((data, points)), axis=0)
        if 1 / LONGEST < height / max(width, 1e-30) < LONGEST:
            axes.set_aspect("equal")
        axes.legend(frameon=False, markerscale=4, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return axes


def code_map(path: Path, latents: Array, labels: Sequence[str] | None = None) -> "Axes":
    """(n, m) latents along the two axes in which they vary most; a colour for each of the ten labels that are most."""
    centred = latents - latents.mean(axis=0)
    _, axes_ = np.linalg.eigh(np.asarray(centred.T @ centred, np.float64))
    flat = centred @ axes_[:, ::-1][:, :2]
    share = flat.var(axis=0).sum() / max(float(centred.var(axis=0).sum()), 1e-30)
    title = f"Codes along their two leading axes ({share:.0%} of the variance)"
    with Picture(path, title, "first axis", "second axis", (7.4, 6.0)) as axes:
        if labels is None:
            axes.scatter(flat[:, 0], flat[:, 1], s=5, color=BLUE, alpha=0.5, linewidth=0)
            return axes
        names, counts = np.unique(np.asarray(labels), return_counts=True)
        named = np.sort(names[np.argsort(-counts, kind="stable")][: len(COLOURS)])
        parts = [(str(name), np.asarray(labels) == name, colour) for name, colour in zip(named, COLOURS, strict=False)]
        if len(names) > len(named):
            parts.insert(0, ("others", ~np.isin(labels, named), "#d5d8dd"))
        for name, rows, colour in parts:
            axes.scatter(flat[rows, 0], flat[rows, 1], s=6, color=colour, alpha=0.6, linewidth=0, label=name)
        axes.legend(frameon=False, markerscale=2.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes


def images(path: Path, pictures: Array, columns: int, title: str) -> "Axes":
    """(n, height, width) grey values from 0, black, to 1 in rows of `columns`, such as what was drawn from a prior."""
    n, height, width = pictures.shape
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, height, width), np.float32)
    sheet[:n] = np.clip(pictures, 0, 1)
    sheet = sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    with Picture(path, title, "", "", (7.0, 7.0 * rows * height / (columns * width) + 0.4)) as axes:
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
    return axes
