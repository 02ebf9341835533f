"""A built folder, opened to be searched. Knows no database, no server and no input file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models import Codec, Scores, Vectors, load_codec
from service.builds.address import is_url
from service.builds.manifest import Manifest
from service.builds.remote_folder import fetched
from service.builds.shard import Shard
from service.index.segment import IndexKind, RowArray, Segment, scan_of
from service.index.view import View
from service.search import Plan, Stage, search


class Hits(NamedTuple):
    """The k best of each query, best first."""

    ids: list[list[str | None]]
    """(q, k), none where there were fewer than k."""
    rows: RowArray
    """(q, k) places over all inputs, -1 where there were fewer than k: `Generation.place` says which file and row."""
    scores: Scores
    """(q, k)"""


@dataclass(frozen=True)
class Generation:
    """Codes, ids and codec of one build; the codes stay in their file, and processes share its pages."""

    folder: Path
    manifest: Manifest
    view: View
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, folder: Path | str, *, checked: bool = False) -> "Generation":
        """Reads every file once to compare it with its checksum, unless somebody `checked` it a moment ago. One at a
        URL is fetched first, into the user's cache.

        Raises:
            DamagedGeneration: see Manifest.check. BuildError: a URL cannot be read.
        """
        if is_url(folder):
            folder, checked = fetched(folder), True
        folder = Path(folder)
        manifest = Manifest.load(folder)
        if not checked:
            manifest.check(folder)
        codec = load_codec((folder / manifest.generation / "codec.safetensors").read_bytes())
        shards = tuple(Shard(folder / name) for name in manifest.shards)
        return cls(folder, manifest, mapped_view(folder / manifest.generation, codec), shards)

    def __len__(self) -> int:
        return len(self.view)

    def search(self, queries: Vectors, k: int = 10, oversample: int = 10) -> Hits:
        """(q, D) float32 queries to the k best items of each by their codes alone.

        Raises:
            BadVectors: not float32, not (q, D), NaN or infinite.
        """
        queries = self.view.codec.checked(queries)
        found = search(self.view, queries, Plan(k, oversample, IndexKind.FAISS, Stage.REFINE), _no_originals)
        ids = [[None if row < 0 else self.id(row) for row in rows] for rows in found.rows.tolist()]
        return Hits(ids, found.rows, found.scores)

    def share(self, number: int, of: int) -> "Generation":
        """Run `number` of `of`, of about equally many items, with its codes in RAM; ids and places stay the same."""
        all_rows, codec = self.view.base.rows, self.view.codec
        rows = np.array(all_rows[len(all_rows) * number // of : len(all_rows) * (number + 1) // of])
        codes = np.empty((len(rows), codec.code_bytes), np.uint8)
        for begin, shard in zip(self._begins.tolist(), self.shards, strict=True):
            first, last = np.searchsorted(rows, [begin, begin + shard.items])
            if first < last:
                codes[first:last] = shard.codes()[rows[first:last] - begin]
        return replace(self, view=View.over(None, 0, Segment.of(codec, rows, codes)))

    def id(self, row: int) -> str:
        """Of the item at a place over all inputs."""
        shard = int(np.searchsorted(self._begins, row, side="right")) - 1
        return self.shards[shard].id(row - int(self._begins[shard]))

    def place(self, row: int) -> tuple[str, int]:
        """The input file of an item, and its row there, from 0."""
        shard = int(np.searchsorted(self._begins, row, side="right")) - 1
        sources = [source.path for source in self.manifest.sources() for _ in source.parts]
        return sources[shard], int(self.shards[shard].rows[row - int(self._begins[shard])])

    @cached_property
    def _begins(self) -> RowArray:
        return np.cumsum([0, *(shard.items for shard in self.shards[:-1])])


def mapped_view(folder: Path, codec: Codec) -> View:
    """The view over a generation's index files; `rows.npy` says which row each slot is."""
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    return View.over(None, 0, Segment(rows, scan_of(codec).mapped(codec, folder)))


def _no_originals(rows: RowArray) -> Mapping[int, bytes]:
    raise AssertionError(f"codes alone rank {len(rows)} rows")
