"""How many true neighbours a code of few bytes keeps: ours beside FAISS's, trained and late items apart.

    python -m benchmarks.recall_per_byte wordnet=FOLDER --bytes 8,16,32 --json rows.json
    python -m benchmarks.recall_per_byte --base mine.npy --queries asked.npy --metric cosine --bytes 32 --json rows.json

Folders are described in benchmarks/datasets.py. Everything is searched exhaustively by decoded vectors. "all": trained
on the whole base, which is then searched. "late": trained on the first 70% (`--late-from` says another row); only the
later rows, never seen, are searched. recall@10 is told twice under cosine: as FAISS ranks (inner product with what was
decoded) and with decoded vectors put back on the sphere, which is how Codewell ranks; under l2 by decoded vectors alone
and by the code's own score. "in 100": of the true ten in the
first hundred, on the sphere. error: squared, in units of the variance; "bound" is what no code of that size can go
below if the data were Gaussian. "and tables": bytes a vector with codebooks and networks shared by the set's own
number of vectors, 1 million and 10 million. With `--cut-from 32` there are
rows of 32-byte codes that are cut: trained and encoded once, whole. Rows stand in the JSON file as soon as they are
measured; a run that is started again goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.datasets import SETS, VectorSet
from models import (
    MOST_STEPS,
    Code,
    Codec,
    Codes,
    Metric,
    ResidualConfig,
    TrainingConfig,
    Vectors,
    cut,
    cut_codes,
    exact_neighbours,
    factories,
    faiss_code,
    fit,
    kept,
    prepared,
    recall,
)

QUERIES = 2_000
FITTED = 50_000
"""Vectors that cut codes are fitted to, at most."""
LATE_SHARE = 0.7
COLUMNS = ("set", "split", "bytes", "code", "as FAISS", "sphere", "in 100", "error", "bound", "train s", "encode/s")


def ours(beams: dict[str, int], minutes: float | None) -> Callable[[Vectors, Metric, int], Code]:
    """A residual autoencoder with its defaults, but for beams; `minutes` long where they are given."""

    def trained(base: Vectors, metric: Metric, size: int) -> Code:
        training = TrainingConfig(held_out=0.02, minutes=minutes)
        codec = fit(ResidualConfig.for_bytes(size, metric, **beams), base, metric, training).codec
        codec.threads, codec.device = torch.get_num_threads(), "auto"
        return Code.of(codec)

    return trained


class CutFrom:
    """Codes of more bytes, cut as `PATCH /collections/{name}` cuts them; trained once for all sizes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._made: tuple[bytes, Codec, Codes] | None = None

    def __call__(self, base: Vectors, metric: Metric, size: int) -> Code:
        """Those of its first `size` bytes: what is encoded is encoded whole."""
        key = str(base.shape).encode() + base[0].tobytes()
        if self._made is None or self._made[0] != key:
            codec = fit(ResidualConfig.for_bytes(self._size, metric), base, metric, TrainingConfig(held_out=0.02)).codec
            codec.threads, codec.device = torch.get_num_threads(), "auto"
            self._made = key, codec, codec.encode(base[:: -(-len(base) // FITTED)])
        _, whole, codes = self._made
        shorter = cut(whole, size, codes, whole.latents(base[:: -(-len(base) // FITTED)]))
        return Code(
            lambda vectors: cut_codes(whole, whole.encode(vectors), shorter),
            shorter.decode,
            size,
            len(shorter.to_bytes()),
            shorter.errors,
        )


def by_faiss(factory: str) -> Callable[[Vectors, Metric, int], Code]:
    """What FAISS makes of its own name."""
    return lambda base, metric, _: faiss_code(factory, base, metric)


def codes(
    dim: int, size: int, longer: Mapping[int, CutFrom], minutes: float | None
) -> Iterator[tuple[str, Callable[[Vectors, Metric, int], Code]]]:
    """Every code of `size` bytes for (n, dim) vectors, by name."""
    yield from ((f"Codewell, {whole} bytes cut", made) for whole, made in longer.items() if size < whole)
    if size <= MOST_STEPS:
        within = f", {minutes:g} minutes" if minutes else ""
        yield f"Codewell residual{within}", ours({}, minutes)
        yield f"Codewell, beams of 128{within}", ours({"beam": 128, "refit_beam": 128}, minutes)
    yield from ((name, by_faiss(name)) for name in factories(dim, size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--metric", type=Metric, default=Metric.COSINE)
    parser.add_argument("--bytes", default="8,16,32,64")
    parser.add_argument("--splits", default="late,all")
    parser.add_argument("--late-from", type=int)
    parser.add_argument("--cut-from", type=int, help="bytes of a code whose first bytes are measured too")
    parser.add_argument("--minutes", type=float, help="of training ours; as long as it takes if none")
    parser.add_argument("--only", help="codes whose name holds this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    faiss.omp_set_num_threads(given.threads)
    longer = {} if given.cut_from is None else {given.cut_from: CutFrom(given.cut_from)}
    data = [SETS[name](Path(folder)) for name, _, folder in (named.partition("=") for named in given.sets)]
    if given.base is not None:
        base, queries = (np.load(path).astype(np.float32) for path in (given.base, given.queries))
        data.append(VectorSet(given.base.stem, base, queries, given.metric))
    rows: list[dict[str, Any]] = json.loads(given.json.read_text()) if given.json.exists() else []
    shown = {(row["set"], *row["base"], row["split"], row["bytes"], row["code"]): row for row in rows}
    print("| " + " | ".join(COLUMNS) + " | and tables |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    for one in data:
        for split in given.splits.split(","):
            for size in map(int, given.bytes.split(",")):
                for name, make in codes(one.base.shape[1], size, longer, given.minutes):
                    if given.only is not None and given.only not in name:
                        continue
                    late_from = given.late_from or int(len(one.base) * LATE_SHARE)
                    row = shown.get((one.name, len(one.base), late_from, split, size, name))
                    if row is None:
                        row = measured(one, split, late_from, size, name, make)
                        rows.append(row)
                        given.json.write_text(json.dumps(rows, indent=1))
                    print(
                        "| " + " | ".join(str(row[column]) for column in COLUMNS) + f" | {row['and tables']} |",
                        flush=True,
                    )


def measured(
    data: VectorSet, split: str, late_from: int, size: int, name: str, make: Callable[[Vectors, Metric, int], Code]
) -> dict[str, Any]:
    """One row: trains, encodes, decodes and ranks."""
    base, queries = prepared(data.base, data.metric), data.queries[:QUERIES]
    seen, searched = (base, base) if split == "all" else (base[:late_from], base[late_from:])
    began = time.perf_counter()
    code = make(seen, data.metric, size)
    trained = time.perf_counter() - began
    found = kept(code, searched, queries, data.metric)
    truth = exact_neighbours(searched, queries, 10, data.metric).rows
    plain = Metric.IP if data.metric is Metric.COSINE else data.metric
    as_faiss = exact_neighbours(found.decoded, queries, 10, plain).rows
    return {
        "set": data.name,
        "base": [len(base), late_from],
        "split": split,
        "bytes": size,
        "code bytes": code.code_bytes,
        "code": name,
        "as FAISS": f"{recall(as_faiss, truth).mean():.4f}",
        "sphere": f"{recall(found.rows[:, :10], truth).mean():.4f}",
        "in 100": f"{recall(found.rows, truth).mean():.4f}",
        "error": f"{found.error:.4f}",
        "bound": f"{gaussian_bound(searched, 8 * size):.4f}",
        "train s": f"{trained:.0f}",
        "encode/s": f"{len(searched) / found.encode_seconds:,.0f}",
        "and tables": ", ".join(f"{code.total_bytes(n):.1f}" for n in (len(searched), 1_000_000, 10_000_000)),
    }


def gaussian_bound(vectors: Vectors, bits: int) -> float:
    """Error of the best code of `bits` bits for a Gaussian of the same covariance (reverse water-filling)."""
    spectrum = np.clip(np.linalg.eigvalsh(np.cov(vectors.T)), 1e-12, None)
    low, high = 1e-12, float(spectrum.max())
    for _ in range(100):
        level = (low + high) / 2
        rate = 0.5 * np.log2(np.maximum(spectrum / level, 1)).sum()
        low, high = (level, high) if rate > bits else (low, level)
    return float(np.minimum(spectrum, level).sum() / spectrum.sum())


if __name__ == "__main__":
    main()
