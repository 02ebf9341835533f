"""A built folder made a collection: its ids and codes become rows of the database, and what comes later stands on them.

Knows no vectors: a build leaves none, so that the collection is one whose originals are dropped.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models import Codec, Codes
from service.builds.generation import Generation
from service.codec_spec import codec_spec
from service.errors import CollectionExists, Conflict, InvalidInput
from service.given import COLLECTION_NAME
from service.index.segment import Segment, scan_of
from service.index.view import View
from service.originals import Originals
from service.snapshots import Snapshots
from service.store import attaching, store
from service.store.database import Database
from service.store.tables import CollectionRow, GenerationRow
from service.swap import GenerationState
from service.text.encoder import TextEncoder

PAGE = 20_000
"""Items written and committed together: a kill loses no more."""
DRAFT = ".attaching"
"""After the name of a collection that is not whole yet."""

Progress = Callable[[int, int], object]
"""Told items written so far, and how many there are."""


class Attached(NamedTuple):
    """What was made."""

    collection: str
    items: int
    written: int
    """Of them, by this run: the others were there when an earlier one was cut off."""
    generation: int


class Attachment:
    """One built folder on its way to being a collection."""

    def __init__(
        self, database: Database, snapshots: Snapshots | None, built: Generation, encoder: TextEncoder | None
    ) -> None:
        """`snapshots` is where servers here begin from; none where they make their own.

        Raises:
            InvalidInput: the encoder makes vectors of another dimension.
        """
        codec = built.view.codec
        if encoder is not None and encoder.dimension != codec.dim:
            raise InvalidInput(
                f"the encoder {encoder.name!r} makes vectors of {encoder.dimension} numbers, and the folder has codes "
                f"of {codec.dim}",
                field="encoder",
            )
        self._database = database
        self._snapshots = snapshots
        self._built = built
        self._encoder = encoder
        self._folder = built.folder / built.manifest.generation

    def run(self, name: str, *, file_ids: bool = False, progress: Progress = lambda *_: None) -> Attached:
        """Writes all that is not there yet, page by page, into a collection of another name, which gets its own at the
        end. With `file_ids` an item is called `FILE:ID`, by the name of its input.

        Raises:
            CollectionExists; InvalidInput: the name is none.
            Conflict: an id stands twice, or what a run that was cut off left is of another folder or other options, or
                was changed.
        """
        if not re.fullmatch(COLLECTION_NAME, name + DRAFT):
            raise InvalidInput(f"{name!r} cannot be the name of a collection", field="collection")
        draft, generation_id, done = self._begun(name, file_ids)
        already, total = done, len(self._built)
        progress(done, total)
        for ids, codes in self._pages(done, file_ids):
            self._write(draft, done, ids, codes)
            done += len(ids)
            progress(done, total)
        if self._snapshots is not None:
            rows = np.arange(1, total + 1, dtype=np.int64)
            base = Segment(rows, scan_of(self._codec).mapped(self._codec, self._folder))
            self._snapshots.write(draft, View.over(generation_id, total, base))
        with self._database.naming() as session:
            if store.find_collection(session, name) is not None:
                raise _there(name)
            session.get_one(CollectionRow, draft).name = name
        return Attached(name, total, total - already, generation_id)

    @property
    def _codec(self) -> Codec:
        return self._built.view.codec

    def _begun(self, name: str, file_ids: bool) -> tuple[int, int, int]:
        """Ids of the unfinished collection and of its generation, and how many items it has."""
        built, codec, encoder = self._built.manifest, self._codec, self._encoder
        identity = None if encoder is None else encoder.identity
        asked = {"built": built.generation, "items": built.items, "encoder": identity, "file_ids": file_ids}
        certificate = built.certificate(self._built.folder) | {"attached": asked}
        certificate["disk_bytes"] = {"code": codec.code_bytes, "original": 0}
        with self._database.naming() as session:
            if store.find_collection(session, name) is not None:
                raise _there(name)
            row = store.find_collection(session, name + DRAFT)
            if row is not None:
                generation = session.get(GenerationRow, row.generation_id)
                told = {} if generation is None else generation.certificate.get("attached")
                if told != asked or row.seq != row.item_count:
                    raise Conflict(
                        f"{row.name!r} is what another `codewell attach` left, not of this folder as it is and these "
                        "options: delete that collection",
                        field="collection",
                    )
                return row.id, row.generation_id or 0, row.item_count
            row = CollectionRow(
                name=name + DRAFT,
                dimension=codec.dim,
                metric=codec.metric.value,
                encoder=None if encoder is None else encoder.name,
                encoder_identity=identity,
                originals=Originals.DROP.value,
                codec=self._spec(),
                created_at=time.time(),
            )
            session.add(row)
            session.flush()
            generation = GenerationRow(
                collection_id=row.id,
                state=GenerationState.PUBLISHED,
                codec=codec.to_bytes(),
                fingerprint=codec.fingerprint,
                certificate=certificate,
                oversample=certificate.get("oversample", 10),
                created_at=time.time(),
                published_at=time.time(),
            )
            session.add(generation)
            session.flush()
            row.generation_id = generation.id
            return row.id, generation.id, 0

    def _spec(self) -> dict[str, Any]:
        config = getattr(self._codec, "config", None)
        factory = getattr(config, "factory", None)
        sized = {"factory": factory} if self._codec.kind == "faiss" else {"bytes": self._codec.code_bytes}
        return codec_spec({"kind": self._codec.kind, **sized}).model_dump(mode="json")

    def _pages(self, done: int, file_ids: bool) -> Iterator[tuple[list[str], Codes]]:
        """Ids and (n, B) codes of the items after the first `done`, in the order of the inputs."""
        alive = np.load(self._folder / "rows.npy", mmap_mode="r")
        sources = [source.path for source in self._built.manifest.sources() for _ in source.parts]
        begin = 0
        for path, shard in zip(sources, self._built.shards, strict=True):
            first, last = np.searchsorted(alive, (begin, begin + shard.items)).tolist()
            if max(first, done) < last:
                own = np.asarray(alive[max(first, done) : last]) - begin
                names, codes = shard.ids(), shard.codes()
                prefix = f"{Path(path).name}:" if file_ids else ""
                for start in range(0, len(own), PAGE):
                    page = own[start : start + PAGE]
                    yield [prefix + names[position] for position in page.tolist()], codes[page]
            begin += shard.items

    def _write(self, draft: int, done: int, ids: Sequence[str], codes: Codes) -> None:
        with self._database.writing() as session:
            row = store.lock_collection(session, draft)
            if row is None or row.seq != done:
                raise Conflict("another command writes to that collection, or has deleted it", field="collection")
            there = set(store.items_by_id(session, draft, ids))
            if there:  # within a file the build has rejected them
                raise Conflict(
                    f"the id {min(there)!r} stands in two of the inputs, and a collection has it once: delete the "
                    f"collection {row.name!r} and give --file-ids, which puts the name of the file before each",
                    field="id",
                )
            attaching.append(session, row, ids, [code.tobytes() for code in codes], time.time())


def _there(name: str) -> CollectionExists:
    return CollectionExists(f"there is a collection or alias {name!r} already", field="collection")
