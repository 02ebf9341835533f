"""The pictures of a training: which a kind has, and that what they show is what the codec does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import (
    BinaryConfig,
    CodecConfig,
    Corruption,
    CorruptionKind,
    DenseConfig,
    Fitted,
    LatentType,
    Metric,
    Portrait,
    QuantizerConfig,
    SparseConfig,
    TrainingConfig,
    VariationalConfig,
    Vectors,
    fit,
)
from tests.conftest import clustered
from tests.test_plots import xs, ys

pytest.importorskip("matplotlib", reason="needs the extra: plots")

DIM = 12
DATA, HELD_OUT = clustered(1000, DIM), clustered(200, DIM, seed=1)
NONE = Corruption(CorruptionKind.NONE)
CONFIGS: dict[str, tuple[CodecConfig, set[str]]] = {
    "denoising": (DenseConfig(6, LatentType.INT8, decoder_hidden=(16,)), {"map", "field"}),
    "dense": (DenseConfig(6, LatentType.INT4, decoder_hidden=(), corruption=NONE), {"map"}),
    "variational": (VariationalConfig(6, LatentType.INT8, decoder_hidden=(16,), beta=0.1), {"map"}),
    "sparse": (SparseConfig(48, 4), {"map", "activity"}),
    "binary": (BinaryConfig(32), {"map", "bits"}),
}


def portrayed(config: CodecConfig, data: Vectors = DATA, epochs: int = 2) -> tuple[Any, Portrait]:
    """A trained codec and its portrait."""
    fitted: Fitted = fit(config, data, Metric.L2, TrainingConfig(epochs=epochs))
    return fitted.codec, Portrait(*fitted, data, HELD_OUT[:, : data.shape[1]])


@pytest.mark.parametrize(("config", "own"), CONFIGS.values(), ids=CONFIGS.keys())
def test_each_kind_has_its_pictures(config: CodecConfig, own: set[str], tmp_path: Path) -> None:
    _, portrait = portrayed(config, epochs=1)
    drawn = portrait.draw(tmp_path)
    assert set(drawn) == {"loss", "spectrum", "size"} | own
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in drawn}


@pytest.mark.parametrize("factory", ["PCAR6,SQ4", "PQ3x8", "RQ3x8"])
def test_a_code_of_faiss_has_no_curve_and_its_own_name(factory: str, tmp_path: Path) -> None:
    _, portrait = portrayed(QuantizerConfig(factory))
    assert set(portrait.draw(tmp_path)) == {"spectrum", "size", "map"}
    assert [line.get_label() for line in portrait.size(tmp_path / "x.png").get_lines()] == ["PCA, int4", factory]


def test_the_curve_is_that_of_the_run(tmp_path: Path) -> None:
    fitted = fit(CONFIGS["denoising"][0], DATA, Metric.L2, TrainingConfig(epochs=3))
    axes = Portrait(*fitted, DATA, HELD_OUT).loss(tmp_path / "x.png")
    assert ys(axes.get_lines()[0]) == [epoch.held_out_error for epoch in fitted.run.epochs]
    assert "share of variance" in axes.get_ylabel()


def test_of_bits_the_curve_says_that_order_is_measured_too(tmp_path: Path) -> None:
    _, portrait = portrayed(BinaryConfig(32), epochs=1)
    assert "order of neighbours" in portrait.loss(tmp_path / "x.png").get_ylabel()


@pytest.mark.parametrize("kind", ["denoising", "sparse", "binary"])
def test_what_is_lost_of_the_axes_is_what_the_codec_loses(kind: str, tmp_path: Path) -> None:
    codec, portrait = portrayed(CONFIGS[kind][0])
    data, lost, _, *_ = portrait.spectrum(tmp_path / "x.png").get_lines()
    error = np.square(DATA - codec.decode(codec.encode(DATA))).sum(axis=1).mean()
    assert sum(ys(lost)) == pytest.approx(error, rel=1e-4)
    assert sum(ys(data)) == pytest.approx(DATA.var(axis=0).sum(), rel=1e-4)


def test_sizes_compare_with_pca_of_as_many_bytes(tmp_path: Path) -> None:
    codec, portrait = portrayed(DenseConfig(6, LatentType.INT4, decoder_hidden=(), corruption=NONE))
    pca, own = portrait.size(tmp_path / "x.png").get_lines()
    # A codec of 3 bytes is compared at a quarter, a half, one and two times them: 12 components have no more than 6.
    assert xs(pca) == [1, 2, 3, 6]
    assert ys(pca)[0] > 2 * ys(pca)[1] > 4 * ys(pca)[2] > 0
    variance = np.square(DATA - DATA.mean(axis=0)).mean()
    error = np.square(HELD_OUT - codec.decode(codec.encode(HELD_OUT))).mean() / variance
    assert xs(own) == [3]
    assert ys(own) == pytest.approx([error], rel=1e-5)
    untrained = fit(codec.config, DATA, Metric.L2, TrainingConfig(epochs=1, learning_rate=1e-12)).codec
    start = np.square(HELD_OUT - untrained.decode(untrained.encode(HELD_OUT))).mean() / variance
    assert ys(pca)[2] == pytest.approx(start, rel=0.1), "the start of a linear codec is PCA, but for its rotation"


def test_activity_counts_every_active_latent(tmp_path: Path) -> None:
    codec, portrait = portrayed(SparseConfig(48, 4))
    shares = ys(portrait.activity(tmp_path / "x.png").get_lines()[0])
    active = (codec.stored_latents(codec.encode(DATA)) > 0).mean(axis=0)
    np.testing.assert_allclose(shares, np.sort(active)[::-1])


def test_the_map_is_of_the_stored_latents(tmp_path: Path) -> None:
    codec, portrait = portrayed(CONFIGS["dense"][0])
    (dots,) = portrait.map(tmp_path / "x.png").collections
    latents = codec.stored_latents(codec.encode(DATA))
    singular = np.linalg.svd(latents - latents.mean(axis=0), compute_uv=False)
    spread = np.asarray(dots.get_offsets()).std(axis=0)
    np.testing.assert_allclose(spread, singular[:2] / np.sqrt(len(DATA)), rtol=1e-3)


@pytest.mark.parametrize("kind", [CorruptionKind.GAUSSIAN, CorruptionKind.MASKING, CorruptionKind.SALT_AND_PEPPER])
def test_arrows_lead_from_noise_back_to_the_data(kind: CorruptionKind, tmp_path: Path) -> None:
    config = DenseConfig(6, LatentType.INT8, hidden=(64,), decoder_hidden=(64,), corruption=Corruption(kind, 0.3))
    _, portrait = portrayed(config, epochs=20)
    axes = portrait.field(tmp_path / "x.png")
    data = np.asarray(axes.collections[0].get_offsets())
    arrows: Any = next(part for part in axes.collections if hasattr(part, "U"))
    begins, ends = np.asarray(arrows.XY), np.asarray(arrows.XY) + np.stack([arrows.U, arrows.V], axis=1)
    far, near = np.abs(begins[:, 1]).mean(), np.abs(ends[:, 1]).mean()
    assert far > 1.3 * np.abs(data[:, 1]).mean(), "noise leads away along the axis that was chosen"
    assert near < 0.8 * far
    assert axes.get_ylabel().startswith("principal axis ")


@pytest.mark.parametrize(
    ("data", "config", "names"),
    [
        (DATA[:100, :1], DenseConfig(1, LatentType.INT8, decoder_hidden=(4,)), {"loss"}),
        (DATA[:20], DenseConfig(1, LatentType.INT8, decoder_hidden=()), {"loss", "spectrum", "size", "map", "field"}),
        (
            np.ones((50, 5), np.float32),
            DenseConfig(2, LatentType.INT8, decoder_hidden=()),
            {"loss", "spectrum", "size", "map", "field"},
        ),
        (DATA[:30, :2], SparseConfig(3000, 2), {"loss", "spectrum", "size", "map", "activity"}),
    ],
    ids=["one component", "few vectors and one latent", "no variance", "more latents than are mapped"],
)
def test_data_of_which_there_is_little_to_see(
    data: Vectors, config: CodecConfig, names: set[str], tmp_path: Path
) -> None:
    _, portrait = portrayed(config, data, epochs=1)
    assert set(portrait.draw(tmp_path)) == names
