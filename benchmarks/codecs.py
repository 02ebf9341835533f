"""Every kind of codec at equal bytes on real vectors: the table of "Which autoencoder?".

    python -m benchmarks.codecs wordnet=FOLDER fashion-mnist=FOLDER glove=FOLDER --bytes 32,64 [--base 30000]

Folders are described in benchmarks/datasets.py. `--base N` takes N vectors of each set, evenly spaced, instead of all.
error: squared error through the code, in units of the data's variance, over the base. recall@10: exhaustive ranking by
the decoded vectors (unit length again under cosine) against exact search. in 100: the true ten among the first hundred,
which is recall@10 once 100 originals are read. shortlist: the same by the index's own order. Training sees every base
vector but the twentieth that it holds out; queries are never in the base. Seconds, and vectors encoded a second, are of
CPU time, so that what else a machine does hardly counts: give it one thread.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import SETS, VectorSet
from models import (
    BinaryConfig,
    Codec,
    CodecConfig,
    Corruption,
    CorruptionKind,
    DenseConfig,
    Metric,
    ResidualConfig,
    SparseConfig,
    TrainingConfig,
    VariationalConfig,
    exact_neighbours,
    farther,
    fit,
    prepared,
    recall,
)
from service.index.segment import scan_of

QUERIES = 1_000
BLOCK = 20_000
COLUMNS = ("set", "bytes", "codec", "error", "recall@10", "in 100", "shortlist", "train s", "vectors/s", "codec MB")
PLAIN = Corruption(CorruptionKind.NONE)

KINDS: dict[str, Callable[[int, int, Metric], CodecConfig]] = {
    "PCA (dense, linear, untrained)": lambda dim, size, _: DenseConfig.for_bytes(
        dim, size, decoder_hidden=(), corruption=PLAIN
    ),
    "dense": lambda dim, size, _: DenseConfig.for_bytes(dim, size, corruption=PLAIN),
    "denoising (dense, gaussian .1)": lambda dim, size, _: DenseConfig.for_bytes(dim, size),
    "variational (beta .1)": lambda dim, size, _: VariationalConfig.for_bytes(dim, size, beta=0.1),
    "sparse (topk, 8 x width)": lambda dim, size, _: SparseConfig(latents=8 * dim, k=size // 3),
    "binary": lambda _, size, __: BinaryConfig(bits=8 * size),
    "residual": lambda _, size, metric: ResidualConfig.for_bytes(size, metric),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    arguments.add_argument("--bytes", default="32,64")
    arguments.add_argument("--base", type=int)
    arguments.add_argument("--only", help="codecs whose name holds this")
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    rows: list[dict[str, Any]] = []
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for named in given.sets:
        name, _, folder = named.partition("=")
        for row in measured(thinned(SETS[name](Path(folder)), given.base), given.bytes, given.only):
            rows.append(row)
            print("| " + " | ".join(str(row[column]) for column in COLUMNS) + " |", flush=True)
            if given.json is not None:
                given.json.write_text(json.dumps(rows, indent=1))


def measured(data: VectorSet, sizes: str, only: str | None) -> Iterator[dict[str, Any]]:
    """One row a codec and size."""
    base = prepared(data.base, data.metric)
    truth = exact_neighbours(base, data.queries, 10, data.metric).rows
    variance = float(base.var(axis=0).sum())
    for size in map(int, sizes.split(",")):
        for kind, config_of in KINDS.items():
            if only is not None and only not in kind:
                continue
            training = TrainingConfig(epochs=1, learning_rate=1e-9) if "untrained" in kind else TrainingConfig()
            began = time.process_time()
            codec = fit(config_of(base.shape[1], size, data.metric), base, data.metric, training, progress=_shown).codec
            trained = time.process_time() - began
            began = time.process_time()
            codes = codec.encode(data.base)
            rate = len(base) / (time.process_time() - began)
            decoded = np.concatenate(
                [codec.decode(codes[start : start + BLOCK]) for start in range(0, len(codes), BLOCK)]
            )
            found = exact_neighbours(*farther(decoded, data.queries, codec.errors(codes)), 100, data.metric).rows
            yield {
                "set": f"{data.name} {len(base):,}",
                "bytes": codec.code_bytes,
                "codec": kind,
                "error": f"{float(np.square(base - decoded).sum(axis=1).mean()) / variance:.3f}",
                "recall@10": f"{recall(found[:, :10], truth).mean():.3f}",
                "in 100": f"{recall(found, truth).mean():.4f}",
                "shortlist": f"{recall(shortlist(codec, codes, data), truth).mean():.4f}",
                "train s": f"{trained:.0f}",
                "vectors/s": f"{rate:,.0f}",
                "codec MB": f"{len(codec.to_bytes()) / 1e6:.1f}",
            }


def shortlist(codec: Codec, codes: np.ndarray[Any, np.dtype[np.uint8]], data: VectorSet) -> Any:
    """The first hundred rows of each query by the index's own order."""
    live = np.packbits(np.ones(len(codes), np.bool_), bitorder="little")
    return scan_of(codec)(codec, codes).search(data.queries, 100, live).rows


def thinned(data: VectorSet, most: int | None) -> VectorSet:
    """Evenly spaced base vectors and queries."""
    rows = np.linspace(0, len(data.base) - 1, min(most or len(data.base), len(data.base))).astype(np.int64)
    asked = np.linspace(0, len(data.queries) - 1, min(QUERIES, len(data.queries))).astype(np.int64)
    return VectorSet(data.name, data.base[rows], data.queries[asked], data.metric)


def _shown(share: float, epoch: object) -> None:
    del epoch
    print(f"\r{100 * share:3.0f}%", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
