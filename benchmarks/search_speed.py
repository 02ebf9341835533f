"""Searches a second against recall@10: residual codes as a server searches them, and FAISS's indexes, side by side.

    python -m benchmarks.search_speed wordnet=FOLDER --kept FOLDER --json rows.json [--plot curves.png]

No server and no HTTP: each query is asked alone, by one thread and by two that share the queries, and FAISS computes
with one thread a query. Every setting is timed once a round, all of them in turns; medians of the rounds are told.
"Rescored" and "RFlat" mean that originals in RAM rank the best: 4 bytes a number more than "bytes a vector" says, which
are those of the index itself. `--kept` keeps what takes long, codec, codes and graphs, for the next run.

With more `--items` than there are, vectors are real ones plus noise of a tenth of their length, which no code learns:
judge speed by them, and recall by real ones.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import SETS
from models import Codec, Metric, ResidualConfig, TrainingConfig, Vectors, exact_neighbours, fit, load_codec, prepared
from models import recall as recalled
from service.index.segment import IndexKind
from service.index.view import View
from service.search import Plan, Stage, search

K = 10
NOISE = 0.1
SCANS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 1)
PROBES = (1, 4, 16, 64, 256)
DEPTHS = (16, 32, 64, 128, 256)
COLUMNS = ("contender", "setting", "recall@10", "1 thread, queries/s", "2 threads", "bytes a vector")

Ask = Callable[[Vectors], NDArray[np.int64]]
"""(1, D) to (1, 10) rows."""


class Setting(NamedTuple):
    """A way to ask one contender."""

    contender: str
    name: str
    bytes_a_vector: float
    turn_on: Callable[[], Ask]


def ours(codec: Codec, codes: NDArray[np.uint8], base: Vectors) -> Iterator[Setting]:
    """Residual codes: by codes alone, and rescored by 20 to 100 originals."""
    view = View.of(1, codec, 1, np.arange(len(base)), codes)
    size = (view.ram_bytes + codec.ram_bytes) / len(base)

    def originals(rows: NDArray[np.int64]) -> dict[int, bytes]:
        return {row: base[row].tobytes() for row in rows.tolist()}

    def asked(plan: Plan) -> Callable[[], Ask]:
        return lambda: lambda query: search(view, query, plan, originals).rows

    for scan in SCANS:
        plan = Plan(K, 10, IndexKind.FAISS, Stage.REFINE, scan)
        yield Setting("Codewell, codes alone", f"scan {scan}", size, asked(plan))
        for oversample in (2, 5, 10):
            plan = Plan(K, oversample, IndexKind.FAISS, Stage.RESCORE, scan)
            yield Setting("Codewell, rescored", f"scan {scan}, oversample {oversample}", size, asked(plan))


def by_faiss(factory: str, settings: list[str], base: Vectors, metric: Metric, kept: Path) -> Iterator[Setting]:
    """An index of FAISS's own, by its factory string and the parameters that it is asked with."""
    path = kept / f"{factory.replace(',', '-')}-{len(base)}.faiss"
    if path.exists():
        index = faiss.read_index(str(path))
    else:
        index = faiss.index_factory(base.shape[1], factory, faiss.METRIC_L2 if metric is Metric.L2 else 0)
        index.train(base)
        index.add(base)
        faiss.write_index(index, str(path))
    refined = 4 * base.shape[1] if "RFlat" in factory else 0
    size = path.stat().st_size / len(base) - refined

    def turned_on(setting: str) -> Callable[[], Ask]:
        def turn_on() -> Ask:
            faiss.ParameterSpace().set_index_parameters(index, setting)
            return lambda query: index.search(query, K)[1]

        return turn_on

    for setting in settings:
        yield Setting(f"FAISS {factory}", setting, size, turned_on(setting))


def settings(codec: Codec, codes: NDArray[np.uint8], base: Vectors, metric: Metric, kept: Path) -> Iterator[Setting]:
    """All that are compared."""
    size, lists = codec.code_bytes, 2 ** round(np.log2(4 * np.sqrt(len(base))))
    yield from ours(codec, codes, base)
    probed = [f"nprobe={probes},k_factor_rf={factor}" for probes in PROBES for factor in (5, 10)]
    for factory in (f"IVF{lists},PQ{size}x8", f"OPQ{size}_{6 * size},IVF{lists},PQ{size}x8", f"IVF{lists},RaBitQ"):
        yield from by_faiss(f"{factory},RFlat", probed, base, metric, kept)
    for factory in ("HNSW32", "HNSW32_SQ8"):
        yield from by_faiss(factory, [f"efSearch={depth}" for depth in DEPTHS], base, metric, kept)


def rate(ask: Ask, queries: Vectors, threads: int) -> float:
    """Queries a second, each asked alone by one of the threads."""

    def some(first: int) -> None:
        faiss.omp_set_num_threads(1)  # it holds for the calling thread
        for query in range(first, len(queries), threads):
            ask(queries[query : query + 1])

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(some, range(threads)))
        return len(queries) / (time.perf_counter() - began)


def coded(base: Vectors, metric: Metric, size: int, kept: Path) -> tuple[Codec, NDArray[np.uint8]]:
    """A residual codec with its defaults, and the codes of all vectors; what is kept is not made again."""
    saved, codes = kept / f"codec-{size}-{len(base)}.safetensors", kept / f"codes-{size}-{len(base)}.npy"
    if not codes.exists():
        codec = fit(ResidualConfig.for_bytes(size, metric), base[:200_000], metric, TrainingConfig(held_out=0.02)).codec
        codec.threads, codec.device = torch.get_num_threads(), "auto"
        saved.write_bytes(codec.to_bytes())
        np.save(codes, codec.encode(base))
    return load_codec(saved.read_bytes()), np.load(codes)


def grown(base: Vectors, items: int) -> Vectors:
    """The first `items` vectors; where there are fewer, real ones again with noise of a tenth of their length."""
    rng, parts = np.random.default_rng(0), [base[:items]]
    while (missing := items - sum(map(len, parts))) > 0:
        again = base[:missing]
        noise = rng.standard_normal(again.shape, np.float32)
        parts.append(again + NOISE * np.linalg.norm(again, axis=1, keepdims=True) / np.sqrt(again.shape[1]) * noise)
    return np.concatenate(parts)


def plotted(rows: list[dict[str, Any]], path: Path) -> None:
    """One line a contender: its fastest settings by recall."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name in dict.fromkeys(row["contender"] for row in rows):
        own = sorted((row["recall@10"], row["1 thread, queries/s"]) for row in rows if row["contender"] == name)
        best = [(found, speed) for found, speed in own if speed == max(other for at, other in own if at >= found)]
        axes.plot(*zip(*best, strict=True), marker="o", label=name)
    axes.set(xlabel="recall@10", ylabel="queries/s, one thread", yscale="log")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", metavar="NAME=FOLDER")
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--bytes", type=int, default=32)
    parser.add_argument("--items", type=int)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    name, _, folder = given.set.partition("=")
    data = SETS[name](Path(folder))
    base = prepared(grown(data.base, given.items or len(data.base)), data.metric)
    queries = prepared(data.queries[: given.queries], data.metric)
    truth = exact_neighbours(base, queries, K, data.metric).rows
    compared = list(settings(*coded(base, data.metric, given.bytes, given.kept), base, data.metric, given.kept))
    shares = [_share(one.turn_on(), queries, truth) for one in compared]
    rates: list[dict[int, list[float]]] = [{1: [], 2: []} for _ in compared]
    for _ in range(given.rounds):
        for one, told in zip(compared, rates, strict=True):
            ask = one.turn_on()
            for threads, took in told.items():
                took.append(rate(ask, queries, threads))
    rows = [
        dict(
            zip(
                COLUMNS,
                (
                    one.contender,
                    one.name,
                    round(share, 4),
                    *(round(statistics.median(took)) for took in told.values()),
                    round(one.bytes_a_vector, 1),
                ),
                strict=True,
            )
        )
        for one, share, told in zip(compared, shares, rates, strict=True)
    ]
    given.json.write_text(json.dumps(rows, indent=1))
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for row in rows:
        print(
            "| " + " | ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()) + " |"
        )
    if given.plot is not None:
        plotted(rows, given.plot)


def _share(ask: Ask, queries: Vectors, truth: NDArray[np.int64]) -> float:
    found = np.concatenate([ask(queries[at : at + 1]) for at in range(len(queries))])
    return float(recalled(found, truth).mean())


if __name__ == "__main__":
    main()
