"""How a generation comes to be: sample, train, encode everything, measure, publish. Runs in a job's own process."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Codec, Epoch, Metric, Vectors, fit, prepared
from service.certificate import HeldOut, measure
from service.codec_spec import TrainingSpec, codec_spec
from service.errors import CollectionNotFound, TooFewItems
from service.index.segment import RowArray
from service.index.view import View
from service.jobs import FEWEST_ITEMS
from service.originals import KEPT_SAMPLE, Originals, decoded
from service.pictures import draw
from service.search import Stage
from service.store import payload, store
from service.store.database import Database
from service.store.tables import CollectionRow, GenerationRow

PAGE = 5_000
HELD_OUT = 500
"""Items set apart as queries of the certificate; a twentieth where there are few."""

Report = Callable[[float, str], None]
"""Progress 0..1 and what is being done; raises TrainingStopped where the job is to end."""


Fence = Callable[[Session], object]
"""Called in each transaction that publishes or frees: raises TrainingStopped where another start has the job now."""


class Build:
    """One generation of one collection on its way to being published."""

    def __init__(
        self,
        database: Database,
        collection_id: int,
        parameters: Mapping[str, Any],
        scratch: Path,
        report: Report,
        fence: Fence = lambda _: None,
    ) -> None:
        self._database = database
        self._id = collection_id
        self._scratch = scratch
        self._report = report
        self._fence = fence
        with database.reading() as session:
            row = self._row(session)
            self._dim, self._metric = row.dimension, Metric(row.metric)
            self._drops = row.originals == Originals.DROP
            self._spec = codec_spec(parameters.get("codec") or row.codec)
        self._training = TrainingSpec.model_validate(parameters.get("training") or {})

    def run(self, train_sample: int) -> dict[str, Any]:
        """Trains, encodes, measures and publishes; returns what the job shows as its result.

        Raises:
            TooFewItems, CollectionNotFound, TrainingStopped, CodecError
        """
        began = time.monotonic()
        if (published := self._published_already()) is not None:
            return published
        self._report(0.0, "reading vectors")
        self._sweep()
        held_out, vectors = self._sample(train_sample)
        fitted = codec, run = fit(
            self._spec.config(self._dim),
            vectors,
            self._metric,
            self._training.config(),
            progress=self._trained,
            checkpoint=self._scratch / "checkpoint",
        )
        codec.threads, codec.device = torch.get_num_threads(), "auto"
        saved = codec.to_bytes()
        generation_id = self._start(codec, saved)
        last = self._encode(codec, generation_id, 0)
        self._report(0.9, "measuring recall")
        certificate = self._measure(codec, generation_id, held_out)
        certificate |= {
            "held_out_error": round(run.best.held_out_error, 5),
            "trained_on": run.trained_on,
            "training_seconds": round(run.seconds, 2),
            "codec": {"kind": codec.kind, **asdict(self._spec.config(self._dim))},
            "seed": self._training.seed,
        }
        self._report(0.95, "drawing pictures")
        pictures = draw(fitted, vectors, held_out.vectors, self._scratch)
        self._report(0.97, "publishing")
        self._publish(codec, generation_id, certificate, last)
        self._sweep()
        self._drop_originals()
        self._database.reclaim()
        return {
            "generation": generation_id,
            "certificate": certificate,
            "curve": [epoch._asdict() for epoch in run.epochs],
            "pictures": list(pictures.names),
            "no_pictures": pictures.reason,
            "seconds": round(time.monotonic() - began, 2),
        }

    def _sample(self, most: int) -> tuple[HeldOut, Vectors]:
        """Held-out queries, and the training vectors as a memory map of prepared float32.

        A job that is taken up again goes on with those it began with: its checkpoint belongs to them.
        """
        path, held_path = self._scratch / "vectors.npy", self._scratch / "held_out.npz"
        if held_path.exists():
            with np.load(held_path) as kept:
                return HeldOut(kept["rows"], kept["vectors"]), np.load(path, mmap_mode="r")
        with self._database.reading() as session:
            count = payload.count_rows(session, self._id)
        if count < FEWEST_ITEMS:
            raise TooFewItems(f"the collection has {count} items; training needs {FEWEST_ITEMS}", field="collection")
        rng = np.random.default_rng(self._training.seed)
        order = rng.permutation(count)
        queries = min(HELD_OUT, count // 20)
        chosen = np.zeros(count, np.int8)
        chosen[order[:queries]] = 2
        chosen[order[queries : queries + most]] = 1
        size = int((chosen == 1).sum())
        self._scratch.mkdir(parents=True, exist_ok=True)
        vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(size, self._dim))
        rows, held, position, written = [], [], 0, 0
        for page_rows, page in self._blocks():
            kinds = chosen[position : position + len(page)]  # items that came after counting are left out
            position += len(page)
            page_rows, page = page_rows[: len(kinds)], prepared(page[: len(kinds)], self._metric)
            part = page[kinds == 1]
            vectors[written : written + len(part)] = part
            written += len(part)
            rows.append(page_rows[kinds == 2])
            held.append(page[kinds == 2])
        if not written:
            raise TooFewItems("the items were deleted before training began", field="collection")
        vectors.flush()
        held_out = HeldOut(np.concatenate(rows), np.concatenate(held))
        draft = self._scratch / "draft.npz"
        np.savez(draft, rows=held_out.rows, vectors=held_out.vectors)
        draft.replace(held_path)
        return held_out, vectors[:written]

    def _trained(self, share: float, epoch: Epoch) -> None:
        self._report(0.05 + 0.55 * share, f"training: epoch {epoch.number}, held-out error {epoch.held_out_error:.4f}")

    def _start(self, codec: Codec, saved: bytes) -> int:
        with self._database.writing() as session:
            self._row(session, lock=True)
            generation = GenerationRow(
                collection_id=self._id,
                state="building",
                codec=saved,
                fingerprint=codec.fingerprint,
                certificate={},
                created_at=time.time(),
            )
            session.add(generation)
            session.flush()
            return generation.id

    def _encode(self, codec: Codec, generation_id: int, last: int) -> int:
        """Stores the codes of the rows after `last` and returns the new last one; rows deleted meanwhile get none."""
        done = 0
        with self._database.reading() as session:
            total = max(1, payload.count_rows(session, self._id))
        while True:
            with self._database.reading() as session:
                page = payload.vectors_without_code(session, self._id, generation_id, last, PAGE)
            if not page:
                return last
            codes = _encoded(codec, page)
            with self._database.writing() as session:
                self._row(session, lock=True)
                alive = payload.rows_alive(session, self._id, page[0][0], page[-1][0])
                payload.add_codes(session, generation_id, [entry for entry in codes if entry[0] in alive])
            last, done = page[-1][0], done + len(page)
            self._report(0.6 + 0.3 * min(1.0, done / total), f"encoding: {done} of {total} items")

    def _measure(self, codec: Codec, generation_id: int, held_out: HeldOut) -> dict[str, Any]:
        rows, codes, last = [], [], 0
        while True:
            with self._database.reading() as session:
                page = payload.codes_after(session, generation_id, last, PAGE)
            if not page:
                break
            rows.append(np.array([row for row, _ in page], np.int64))
            codes.append(np.frombuffer(b"".join(code for _, code in page), np.uint8).reshape(len(page), -1))
            last = page[-1][0]
        if not rows:
            raise TooFewItems("the items were deleted during training", field="collection")
        view = View.of(generation_id, codec, 0, np.concatenate(rows), np.concatenate(codes))
        # What came since the codes were made is in neither: it would be missed without being lost.
        blocks = ((kept[kept <= last], vectors[kept <= last]) for kept, vectors in self._blocks())
        stages = (Stage.REFINE,) if self._drops else (Stage.REFINE, Stage.RESCORE)
        return measure(view, held_out, blocks, self._originals, stages=stages)

    def _publish(self, codec: Codec, generation_id: int, certificate: dict[str, Any], last: int) -> None:
        """Encodes what came last under the collection's lock and swaps. Rows ascend: up to `last` all have codes."""
        last = self._encode(codec, generation_id, last)  # most of what came while measuring, before the lock is taken
        with self._database.writing() as session:
            row = self._row(session, lock=True)
            self._fence(session)
            while page := payload.vectors_without_code(session, self._id, generation_id, last, PAGE):
                payload.add_codes(session, generation_id, _encoded(codec, page))
                last = page[-1][0]
            generation = session.get_one(GenerationRow, generation_id)
            generation.state, generation.certificate = "published", certificate
            row.generation_id = generation_id

    def _sweep(self) -> None:
        """Frees the codes of generations that are not published: old ones, and those of builds that were cut off."""
        for generation_id in self._unpublished():
            freed = True
            while freed:
                with self._database.writing() as session:
                    self._fence(session)
                    freed = payload.retire_codes(session, generation_id, PAGE)
                    session.get_one(GenerationRow, generation_id).state = "retired"

    def _drop_originals(self) -> None:
        """Frees the vectors that have codes now, but for a sample, evenly over the rows."""
        if not self._drops:
            return
        with self._database.reading() as session:
            every = -(-payload.count_rows(session, self._id) // KEPT_SAMPLE)
        last = 0
        while True:
            with self._database.writing() as session:
                self._fence(session)
                rows = payload.rows_after(session, self._id, last, PAGE)
                coded = payload.codes_by_row(session, self._row(session).generation_id or 0, rows)
                payload.drop_vectors(session, self._id, [row for row in rows if row % every and row in coded])
            if not rows:
                return
            last = rows[-1]

    def _published_already(self) -> dict[str, Any] | None:
        """The result of a job that was cut off after it had published, where vectors may be gone already."""
        with self._database.reading() as session:
            row = self._row(session)
            if not self._drops or row.generation_id is None:
                return None
            certificate = session.get_one(GenerationRow, row.generation_id).certificate
            result = {"generation": row.generation_id, "certificate": certificate, "curve": [], "pictures": []}
        self._drop_originals()
        self._database.reclaim()
        return result | {"no_pictures": "the job was cut off after it had published"}

    def _unpublished(self) -> list[int]:
        with self._database.reading() as session:
            published = self._row(session).generation_id
            kept = select(GenerationRow.id).where(
                GenerationRow.collection_id == self._id, GenerationRow.state != "retired"
            )
            return [generation_id for generation_id in session.scalars(kept) if generation_id != published]

    def _blocks(self) -> Iterator[tuple[RowArray, Vectors]]:
        last = 0
        while True:
            with self._database.reading() as session:
                page = payload.vectors_after(session, self._id, last, PAGE)
            if not page:
                return
            yield np.array([row for row, _ in page], np.int64), decoded([vector for _, vector in page], self._dim)
            last = page[-1][0]

    def _originals(self, rows: RowArray) -> Mapping[int, bytes]:
        with self._database.reading() as session:
            return payload.vectors_by_row(session, self._id, rows.tolist())

    def _row(self, session: Session, *, lock: bool = False) -> CollectionRow:
        row = store.lock_collection(session, self._id) if lock else session.get(CollectionRow, self._id)
        if row is None:
            raise CollectionNotFound("the collection was deleted", field="collection")
        return row


def _encoded(codec: Codec, page: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    codes = codec.encode(decoded([vector for _, vector in page], codec.dim))
    return [(row, code.tobytes()) for (row, _), code in zip(page, codes, strict=True)]
