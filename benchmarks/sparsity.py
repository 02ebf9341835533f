"""Sparse autoencoders on real vectors: the sparsity asked and reached, dead latents, and what the codes keep.

    python -m benchmarks.sparsity DATA [--rows 30000] [--epochs 6] [--k 32] [--widths 4 8 16]

DATA is a folder with emb.npy and qemb.npy (n x 384, cosine). Widths are multiples of the vectors' dimension. Reached:
the mean number of active latents; dead: latents active in no vector; error: of vectors through their codes, in units
of their variance, of all rows and of those held out; recall of the true 10 nearest in the first 10 by code alone,
exhaustively; and in buckets that look at a tenth of the codes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from models import Metric, TrainingConfig, Vectors, exact_neighbours, prepared, recall, train
from models.configs import SparseConfig, Sparsity
from models.sparse import SparseAutoencoder
from models.sparse_codec import SparseCodec
from service.index.buckets import BucketIndex
from service.index.sparse import SparseIndex

HEADS = (
    "latents",
    "kind",
    "k",
    "reached",
    "dead %",
    "error",
    "held out",
    "recall@10",
    "buckets",
    "ms/query",
    "seconds",
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--rows", type=int, default=30_000)
    arguments.add_argument("--queries", type=int, default=500)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--k", type=int, default=32)
    arguments.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16])
    arguments.add_argument("--kinds", type=Sparsity, nargs="+", default=list(Sparsity))
    given = arguments.parse_args()
    torch.set_num_threads(1)
    stored = np.load(given.data / "emb.npy", mmap_mode="r")
    rows = np.sort(np.random.default_rng(0).permutation(len(stored))[: given.rows])
    base = prepared(stored[rows].astype(np.float32), Metric.COSINE)
    queries = prepared(np.load(given.data / "qemb.npy")[: given.queries].astype(np.float32), Metric.COSINE)
    truth = exact_neighbours(base, queries, 10, Metric.COSINE).rows
    live = np.packbits(np.ones(len(base), np.bool_), bitorder="little")
    variance = float(base.var(axis=0).mean())
    print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|")
    for width in given.widths:
        for sparsity in given.kinds:
            model = SparseAutoencoder(base.shape[1], SparseConfig(width * base.shape[1], given.k, sparsity))
            run = train(model, base, TrainingConfig(epochs=given.epochs))
            codec = SparseCodec(model, Metric.COSINE)
            codes = codec.encode(base)
            reached, dead = activity(model, base)
            error = float(((codec.decode(codes) - base) ** 2).mean()) / variance
            index = SparseIndex(codec, codes)
            began = time.perf_counter()
            found = index.search(queries, 10, live)
            each = 1000 * (time.perf_counter() - began) / len(queries)
            bucketed = BucketIndex(index).search(queries[:50], 10, live, len(base) // 10).neighbours
            cells = (
                f"{model.latents:,}",
                sparsity,
                str(given.k),
                f"{reached:.2f}",
                f"{100 * dead:.2f}",
                f"{error:.3f}",
                f"{run.best.held_out_error:.3f}",
                f"{recall(found.rows, truth).mean():.3f}",
                f"{recall(bucketed.rows, truth[:50]).mean():.3f}",
                f"{each:.2f}",
                f"{run.seconds:.0f}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)


def activity(model: SparseAutoencoder, vectors: Vectors) -> tuple[float, float]:
    """The mean number of active latents, and the share of latents that are active in no vector."""
    counts = torch.zeros(model.latents)
    with torch.inference_mode():
        for block in torch.split(torch.from_numpy(vectors), 1_024):
            counts += (model.encode(block) > 0).sum(dim=0)
    return float(counts.sum()) / len(vectors), float((counts == 0).float().mean())


if __name__ == "__main__":
    main()
