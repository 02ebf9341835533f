"""Hash buckets beside FAISS's hash tables, hyperplanes and lists over the same bits: recall, candidates, ms and RAM.

    python -m benchmarks.buckets wordnet=FOLDER --kept FOLDER [--items 1000000] [--queries 200] [--json rows.json]

Codes are those of a binary autoencoder of 256 bits, which `--kept` keeps; IndexLSH makes as many bits of its own.
Every contender is handed one vector by one thread and answers with its 100 best. "Recall" is the share of the true ten
nearest among them: recall@10 once 100 originals have been read. Ours orders them by the query's own activations,
FAISS's binary indexes by Hamming distance. "Candidates" are the codes a query is compared with; FAISS's hash tables
compare a code again in every table that has it. Milliseconds are the thread's own on a core, which other work on the
machine delays less than a clock's; medians of five rounds in which all settings take turns, encoding the query
included. "Bytes a code" is what the heap grew by while the index was built and first asked, the code included.

With more `--items` than there are, vectors are real ones plus noise of a tenth of their length: no code learns it, so
judge recall by real ones.
"""

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import SETS
from benchmarks.search_speed import grown
from models import (
    BinaryConfig,
    Codec,
    Codes,
    Metric,
    TrainingConfig,
    Vectors,
    exact_neighbours,
    fit,
    load_codec,
    prepared,
)
from models import recall as recalled
from service.index.buckets import BucketIndex
from service.index.faiss import FaissIndex

BITS, WIDTH, TRUE, K = 256, 16, 10, 100
"""Of a code and of a table's key; the true neighbours that are looked for, and the rows they are looked for among."""
PROBES = (256, 1_000, 4_000, 16_000, 64_000)
FLIPS = (1, 2, 3, 4)
LISTS_PROBED = (4, 16, 64, 256)
ROUNDS, EPOCHS, MINUTES = 5, 4, 4.0
COLUMNS = ("contender", "setting", "recall", "candidates", "ms", "bytes a code")

Ask = Callable[[Vectors], tuple[NDArray[np.int64], int]]
"""(1, D) to (1, 100) rows and the codes that were compared."""


class Setting(NamedTuple):
    """A way to ask one contender."""

    contender: str
    name: str
    bytes_a_code: float
    ask: Ask


class _Heap(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "rest", "keep")
    )


def allocated() -> int:
    """Bytes of the heap that are in use, large blocks among them."""
    told = ctypes.CDLL(None).mallinfo2
    told.restype = _Heap
    heap = told()
    return int(heap.uordblks + heap.hblkhd)


def ours(codec: Codec, codes: Codes) -> Iterator[Setting]:
    """Buckets at several numbers of probes and by default, and the scan of all codes."""
    live = np.packbits(np.ones(len(codes), np.bool_), bitorder="little")
    before = allocated()
    scan = FaissIndex(codec, codes)
    scanned = (allocated() - before) / len(codes)
    index = BucketIndex(scan)
    index.search(np.ones((1, codec.dim), np.float32), K, live, K)
    size = (allocated() - before) / len(codes)

    def asked(candidates: int, probes: int | None) -> Ask:
        def ask(query: Vectors) -> tuple[NDArray[np.int64], int]:
            look = index.search(query, K, live, candidates, probes)
            return look.neighbours.rows, int(look.candidates[0])

        return ask

    for probes in PROBES:
        yield Setting("Codewell, buckets", f"probes {probes:,}", size, asked(0, probes))
    yield Setting("Codewell, buckets", "a tenth of the codes", size, asked(len(codes) // 10, None))
    yield Setting("Codewell, scan", "all codes", scanned, lambda query: (scan.search(query, K, live).rows, len(codes)))


def by_bits(codec: Codec, codes: Codes) -> Iterator[Setting]:
    """FAISS's indexes over the same codes."""
    for tables in (4, BITS // WIDTH):
        before = allocated()
        hashed = faiss.IndexBinaryMultiHash(BITS, tables, WIDTH)
        hashed.add(codes)
        size = (allocated() - before) / len(codes)
        for flips in FLIPS if tables == 4 else FLIPS[:-1]:
            ask = _binary(codec, hashed, faiss.cvar.indexBinaryHash_stats, {"nflip": flips})
            yield Setting(f"FAISS BinaryMultiHash, {tables} tables", f"nflip {flips}", size, ask)
    lists = 2 ** round(np.log2(4 * np.sqrt(len(codes))))
    before = allocated()
    coarse = faiss.IndexBinaryFlat(BITS)
    inverted = faiss.IndexBinaryIVF(coarse, BITS, lists)
    inverted.train(codes[:: max(1, len(codes) // (64 * lists))])
    inverted.add(codes)
    size = (allocated() - before) / len(codes)
    for probed in LISTS_PROBED:
        ask = _binary(codec, inverted, faiss.cvar.indexIVF_stats, {"nprobe": probed})
        yield Setting(f"FAISS BinaryIVF{lists}", f"nprobe {probed}", size, ask)


def hyperplanes(base: Vectors) -> Iterator[Setting]:
    """As many random hyperplanes, compared with all."""
    before = allocated()
    index = faiss.IndexLSH(base.shape[1], BITS, True, True)
    index.train(base)
    index.add(base)
    size = (allocated() - before) / len(base)
    yield Setting("FAISS LSH", "all codes", size, lambda query: (index.search(query, K)[1], len(base)))


def _binary(codec: Codec, index: faiss.IndexBinary, told: Any, settings: dict[str, int]) -> Ask:
    def ask(query: Vectors) -> tuple[NDArray[np.int64], int]:
        for name, value in settings.items():
            setattr(index, name, value)
        told.reset()
        _, rows = index.search(codec.encode(query), K)
        return rows, int(told.ndis)

    return ask


def coded(base: Vectors, real: Vectors, metric: Metric, minutes: float, kept: Path) -> tuple[Codec, Codes]:
    """A binary codec trained on the real vectors, and the codes of all; what is kept is not made again."""
    saved, codes = kept / f"binary-{BITS}.safetensors", kept / f"codes-{len(base)}.npy"
    if not saved.exists():
        training = TrainingConfig(epochs=EPOCHS, held_out=0.02, minutes=minutes)
        saved.write_bytes(fit(BinaryConfig(BITS), real, metric, training).codec.to_bytes())
    codec = load_codec(saved.read_bytes())
    if not codes.exists():
        np.save(codes, codec.encode(base))
    return codec, np.load(codes)


def measured(compared: list[Setting], queries: Vectors, truth: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """A row of the table for each setting."""
    told = [[one.ask(query[None]) for query in queries] for one in compared]
    took: list[list[float]] = [[] for _ in compared]
    for _ in range(ROUNDS):
        for one, times in zip(compared, took, strict=True):
            began = time.thread_time()
            for query in queries:
                one.ask(query[None])
            times.append(1_000 * (time.thread_time() - began) / len(queries))
    for one, answers, times in zip(compared, told, took, strict=True):
        share = float(recalled(np.concatenate([rows for rows, _ in answers]), truth).mean())
        candidates = round(statistics.mean(count for _, count in answers))
        row = one.contender, one.name, round(share, 3), candidates, round(statistics.median(times), 2)
        yield dict(zip(COLUMNS, (*row, round(one.bytes_a_code)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", metavar="NAME=FOLDER")
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--items", type=int)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of training")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    name, _, folder = given.set.partition("=")
    data = SETS[name](Path(folder))
    real, queries = prepared(data.base, data.metric), prepared(data.queries[: given.queries], data.metric)
    base = prepared(grown(data.base, given.items or len(data.base)), data.metric)
    codec, codes = coded(base, real, data.metric, given.minutes, given.kept)
    torch.set_num_threads(1)
    truth = exact_neighbours(base, queries, TRUE, data.metric).rows
    faiss.omp_set_num_threads(1)
    compared = [*ours(codec, codes), *by_bits(codec, codes), *hyperplanes(base)]
    rows = list(measured(compared, queries, truth))
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))
    print(f"{len(base):,} items, {len(queries)} queries\n\n| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
    for row in rows:
        print(f"| {' | '.join(f'{value:,}' if isinstance(value, int) else str(value) for value in row.values())} |")


if __name__ == "__main__":
    main()
