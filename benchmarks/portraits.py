"""The pictures of docs/which-autoencoder.md: of each kind the one that says most, trained at equal bytes.

    python -m benchmarks.portraits --wordnet FOLDER --fashion FOLDER [--out docs/pictures] [--bytes 32] [--base 20000]

Folders are described in benchmarks/datasets.py; the one of fashion-mnist has its labels too. Spectrum, field, activity
and bits are those that any training draws; the map has a colour for each class of image, and the images are drawn by a
variational autoencoder with hidden layers from N(0, I).
"""

import argparse
import gzip
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.codecs import KINDS, thinned
from benchmarks.datasets import fashion_mnist, wordnet
from models import (
    LatentType,
    LearnedCodec,
    Metric,
    Portrait,
    TrainingConfig,
    VariationalAutoencoder,
    VariationalConfig,
    fit,
    plots,
    prepared,
    train,
)

CHOSEN = {
    "dense": "spectrum",
    "denoising (dense, gaussian .1)": "field",
    "sparse (topk, 8 x width)": "activity",
    "binary": "bits",
}
CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
DRAWN, COLUMNS = 40, 10


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--wordnet", type=Path)
    arguments.add_argument("--fashion", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("docs/pictures"))
    arguments.add_argument("--bytes", type=int, default=32)
    arguments.add_argument("--base", type=int, default=20_000)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    if given.wordnet is not None:
        of_texts(given.wordnet, given.bytes, given.base, given.out)
    if given.fashion is not None:
        of_images(given.fashion, given.bytes, given.base, given.out)


def of_texts(folder: Path, size: int, base: int, out: Path) -> None:
    data = thinned(wordnet(folder), base)
    vectors, held_out = (prepared(part, data.metric) for part in (data.base, data.queries))
    for kind, picture in CHOSEN.items():
        fitted = fit(KINDS[kind](vectors.shape[1], size, data.metric), vectors, data.metric, TrainingConfig())
        with tempfile.TemporaryDirectory() as drawn:
            path = Portrait(*fitted, vectors, held_out).draw(Path(drawn))[picture]
            kept(out / f"{kind.split()[0]}-{picture}.png", path.read_bytes())


def of_images(folder: Path, size: int, base: int, out: Path) -> None:
    whole = fashion_mnist(folder)
    rows = np.linspace(0, len(whole.base) - 1, base).astype(np.int64)
    pixels = whole.base[rows] / np.float32(255)
    (path,) = folder.rglob("train-labels-idx1-ubyte.gz")
    labels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=8)[rows]

    codec = fit(KINDS["dense"](pixels.shape[1], size, Metric.L2), pixels, Metric.L2, TrainingConfig()).codec
    assert isinstance(codec, LearnedCodec)
    latents = codec.stored_latents(codec.encode(pixels[::10]))
    plots.code_map(out / "dense-map.png", latents, [CLASSES[label] for label in labels[::10]])
    kept(out / "dense-map.png")

    config = VariationalConfig(16, LatentType.INT8, (256,), (256,))
    model = VariationalAutoencoder(pixels.shape[1], config)
    train(model, pixels, TrainingConfig(learning_rate=1e-3))
    with torch.inference_mode():
        drawn = model.sample(DRAWN, torch.Generator().manual_seed(0)).reshape(DRAWN, 28, 28).numpy()
    plots.images(out / "variational-drawn.png", drawn, COLUMNS, "Drawn from N(0, I): no image of the set is among them")
    kept(out / "variational-drawn.png")


def kept(path: Path, png: bytes | None = None) -> None:
    if png is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    print(f"{path}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
