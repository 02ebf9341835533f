"""Rows drawn evenly over all inputs: training vectors, and queries that no training sees. Knows no codec's insides."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from models import Metric, Vectors, prepared
from service.builds.block import accepted
from service.builds.inputs import Input, Reading
from service.errors import BuildError
from service.files import published
from service.index.segment import RowArray

QUERIES = 200
"""Rows set apart as queries of the certificate; a twentieth where there are few."""
LOOKED_AT = 1_000
"""Rows whose lengths say what the dimension is."""


class Queries(NamedTuple):
    """Held-out rows."""

    vectors: Vectors
    """(q, D)"""
    digests: list[str]
    """(q,) of the input that each stands in,"""
    rows: RowArray
    """(q,) and where."""
    seen: frozenset[str]
    """Digests of all inputs that they were drawn from."""

    def save(self, path: Path) -> None:
        """Publishes them as one file."""
        about = json.dumps({"digests": self.digests, "seen": sorted(self.seen)})
        with published(path) as draft:
            save_file({"vectors": self.vectors, "rows": self.rows}, draft, {"queries": about})

    @classmethod
    def load(cls, path: Path) -> "Queries":
        """What `save` wrote."""
        with safe_open(path, framework="np") as file:
            about = json.loads(file.metadata()["queries"])
            return cls(file.get_tensor("vectors"), about["digests"], file.get_tensor("rows"), frozenset(about["seen"]))


def dimension(inputs: Sequence[Input], reading: Reading) -> int:
    """The length that most of the first vectors have.

    Raises:
        BuildError: no vector can be read, with the first reason why not.
    """
    reason = "the inputs hold no rows"
    for source in inputs:
        for block in reading.reader(source.place).blocks(source.parts[0], LOOKED_AT):
            lengths = Counter(block.lengths[block.lengths > 0].tolist())
            if lengths:
                return int(lengths.most_common(1)[0][0])
            if block.problems:
                row, why = next(iter(block.problems.items()))
                reason = f"{source.path}, row {row}: {why}"
            break
    raise BuildError(f"no vector can be read: {reason}", field="INPUT")


def spread(total: int, count: int, seed: int) -> RowArray:
    """`count` of `total` row numbers, ascending: one at random from each of as many equal stretches."""
    count = min(total, count)
    edges = np.arange(count + 1) * total // max(1, count)
    offsets = np.random.default_rng(seed).random(count) * (edges[1:] - edges[:-1])
    return edges[:-1] + offsets.astype(np.int64)


def drawn(
    inputs: Sequence[Input], chosen: RowArray, reading: Reading, dim: int, metric: Metric, block_rows: int
) -> Iterator[tuple[Input, RowArray, RowArray, Vectors]]:
    """The rows at `chosen` positions over all inputs: input, positions, rows in it, (n, D) prepared vectors."""
    begin = 0
    for source in inputs:
        reader = reading.reader(source.place)
        for part in source.parts:
            first, last = np.searchsorted(chosen, (begin + part.start, begin + part.stop))
            if first < last:
                for block in reader.blocks(part, block_rows, chosen[first:last] - begin):
                    kept = accepted(block, dim, metric)
                    yield source, kept.rows + begin, kept.rows, prepared(kept.vectors, metric)
        begin += source.rows


def training_set(
    inputs: Sequence[Input],
    most: int,
    reading: Reading,
    dim: int,
    metric: Metric,
    block_rows: int,
    seed: int,
    folder: Path,
    told: Callable[[int], object],
) -> tuple[Vectors, Queries]:
    """At most `most` training vectors as a memory map, and the queries; a build cut off goes on with those it has."""
    path, held = folder / "vectors.npy", folder / "queries.safetensors"
    if held.exists():
        return np.load(path, mmap_mode="r"), Queries.load(held)
    total = sum(source.rows for source in inputs)
    count = min(QUERIES, total // 20)
    chosen = spread(total, most + count, seed)
    asked = chosen[spread(len(chosen), count, seed + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(chosen) - count, dim))
    written, parts = 0, list[tuple[Input, RowArray, Vectors]]()
    for source, positions, rows, block in drawn(inputs, chosen, reading, dim, metric, block_rows):
        query = np.isin(positions, asked)
        part = block[~query]
        vectors[written : written + len(part)] = part
        written += len(part)
        parts.append((source, rows[query], block[query]))
        told(len(block))
    vectors.flush()
    if written < len(vectors):  # rows that are rejected leave room, which is cut off
        whole = folder / "whole.npy"
        np.save(whole, vectors[:written])
        whole.replace(path)
    queries = _queries(parts, dim, inputs)
    queries.save(held)
    return np.load(path, mmap_mode="r"), queries


def topped_up(
    old: Queries | None, inputs: Sequence[Input], reading: Reading, dim: int, metric: Metric, block_rows: int, seed: int
) -> Queries:
    """The old queries whose input is still there, and a share of new inputs, which no training has seen."""
    present = {source.digest for source in inputs}
    seen = old.seen if old is not None else frozenset[str]()
    fresh = [source for source in inputs if source.digest not in seen]
    total, new = sum(source.rows for source in inputs), sum(source.rows for source in fresh)
    count = min(QUERIES * new // max(1, total), new // 20)
    parts = [
        (source, rows, block)
        for source, _, rows, block in drawn(fresh, spread(new, count, seed), reading, dim, metric, block_rows)
    ]
    added = _queries(parts, dim, inputs)
    if old is None:
        return added
    kept = [position for position, digest in enumerate(old.digests) if digest in present]
    return Queries(
        np.concatenate((old.vectors[kept], added.vectors)),
        [old.digests[position] for position in kept] + added.digests,
        np.concatenate((old.rows[kept], added.rows)),
        (old.seen | added.seen) & present,
    )


def _queries(parts: Sequence[tuple[Input, RowArray, Vectors]], dim: int, inputs: Sequence[Input]) -> Queries:
    return Queries(
        np.concatenate([np.empty((0, dim), np.float32), *(block for _, _, block in parts)]),
        [source.digest for source, rows, _ in parts for _ in rows],
        np.concatenate([np.empty(0, np.int64), *(rows for _, rows, _ in parts)]),
        frozenset(source.digest for source in inputs),
    )
