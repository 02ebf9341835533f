"""The folder of one generation: codec, index, queries, rejects and the certificate that measures them.

Knows no training, no workers and no manifest.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Codec, Vectors
from service.builds.block import accepted
from service.builds.duplicates import Doubles
from service.builds.generation import mapped_view
from service.builds.inputs import Input, Reading
from service.builds.sample import Queries
from service.builds.shard import Shard
from service.certificate import K, certify
from service.files import published, synced, write_json
from service.index.segment import IndexKind, RowArray, scan_of
from service.questions import HeldOut, Questions
from service.search import OVERSAMPLE, Stage

Report = Callable[[str, float, float], None]
"""Told the step, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Making:
    """What a generation is made of."""

    inputs: Sequence[Input]
    shards: Sequence[Shard]
    """One for each part of each input, in their order."""
    doubles: Doubles
    codec: Codec
    queries: Queries
    reading: Reading
    block_rows: int
    report: Report

    def publish(self, folder: Path, draft: Path, about: dict[str, Any]) -> None:
        """Writes all into `draft`, which becomes `folder` once it is whole; the certificate says `about` as well."""
        codec, shards, doubles = self.codec, self.shards, self.doubles
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        (draft / "codec.safetensors").write_bytes(codec.to_bytes())
        self.queries.save(draft / "queries.safetensors")
        alive = [np.setdiff1d(np.arange(shard.items), list(doubles.get(at, ()))) for at, shard in enumerate(shards)]
        begins = np.cumsum([0, *(shard.items for shard in shards)])
        rows = np.concatenate([begin + own for begin, own in zip(begins, alive, strict=False)])
        np.save(draft / "rows.npy", rows)
        codes = (shard.codes()[own] for shard, own in zip(shards, alive, strict=True))
        scan_of(codec).write(codec, (block for block in codes if len(block)), draft)
        write_rejects(shards, doubles, draft)
        certificate = self._measured(draft, begins, rows) | about
        write_json(draft / "certificate.json", certificate)
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
        synced(folder.parent)

    def _measured(self, draft: Path, begins: RowArray, rows: RowArray) -> dict[str, Any]:
        """recall@10 of the held-out rows against exact search over all inputs, which are read once more."""
        codec, queries, shards = self.codec, self.queries, self.shards
        view = mapped_view(draft, codec)
        first = _first_shards(self.inputs)
        places = [
            _place(shards[first[digest] :], begins[first[digest] :], row)
            for digest, row in zip(queries.digests, queries.rows.tolist(), strict=True)
        ]
        there = [at for at, place in enumerate(places) if place is not None and bool(np.isin(place, rows))]
        if not there:
            return {"items": len(rows), "queries": 0, "k": K, "code_bytes": codec.code_bytes, "recall@10": {}}
        held_out = HeldOut(np.array([places[at] for at in there], np.int64), queries.vectors[there])
        self.report("measuring", 0, int(begins[-1]))

        def blocks() -> Iterator[tuple[RowArray, Vectors]]:
            for own, vectors in self._vectors():
                alive = np.isin(own, rows, assume_unique=True)
                if alive.any():
                    self.report("measuring", int(own[alive][-1]) + 1, int(begins[-1]))
                yield own[alive], vectors[alive]

        asked = Questions.of(view, held_out, blocks())
        # A default search ends with codes: the folder has no vectors.
        return certify(asked, len(view), (Stage.RESCORE, Stage.REFINE), {}, OVERSAMPLE, kinds=(IndexKind.FAISS,))

    def _vectors(self) -> Iterator[tuple[RowArray, Vectors]]:
        """All rows that can be kept, numbered as the shards number them."""
        row = 0
        for source in self.inputs:
            reader = self.reading.reader(source.place)
            for part in source.parts:
                for block in reader.blocks(part, self.block_rows):
                    kept = accepted(block, self.codec.dim, self.codec.metric)
                    yield np.arange(row, row + len(kept.rows)), kept.vectors
                    row += len(kept.rows)


def write_rejects(shards: Sequence[Shard], doubles: Doubles, folder: Path) -> Path:
    """All that was rejected, in the inputs' order; returns the file."""
    path = folder / "rejects.ndjson"
    with published(path) as draft, draft.open("wb") as file:
        for number, shard in enumerate(shards):
            file.write(shard.rejects())
            file.writelines(line.encode() + b"\n" for line in doubles.get(number, {}).values())
    return path


def _first_shards(inputs: Sequence[Input]) -> dict[str, int]:
    """The number of the first shard, by digest; of equal files that of the first."""
    first: dict[str, int] = {}
    number = 0
    for source in inputs:
        first.setdefault(source.digest, number)
        number += len(source.parts)
    return first


def _place(shards: Sequence[Shard], begins: NDArray[np.int64], row: int) -> int | None:
    """Where a row of the file that begins with these shards stands over all inputs; none where it was rejected."""
    for shard, begin in zip(shards, begins.tolist(), strict=False):
        if shard.items and row <= shard.rows[-1]:
            at = int(np.searchsorted(shard.rows, row))
            return begin + at if shard.rows[at] == row else None
    return None
