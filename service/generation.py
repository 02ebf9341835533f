"""How a generation comes to be: sample, train, encode everything, measure, publish. Runs in a job's own process."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import Epoch, Metric, Vectors, described, fit, prepared
from service.admission import FEWEST_ITEMS
from service.candidate import Candidate, held_out_of
from service.certificate import encode_rate, versions
from service.codec_spec import TrainingSpec, codec_spec
from service.contract import ContractSpec
from service.errors import TooFewItems
from service.originals import KEPT_SAMPLE, Originals
from service.pictures import SWITCHED_OFF, draw
from service.questions import HeldOut
from service.store import payload
from service.store.database import Database
from service.store.tables import GenerationRow
from service.swap import PAGE, Fence, Report, Swap


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
        self._swap = Swap(database, collection_id, report, fence)
        with database.reading() as session:
            row = self._swap.row(session)
            self._dim, self._metric = row.dimension, Metric(row.metric)
            self._drops = row.originals == Originals.DROP
            self._config = codec_spec(parameters.get("codec") or row.codec).config(self._dim, self._metric)
            asked = parameters.get("contract") or row.contract
        self._contract = None if asked is None else ContractSpec.model_validate(asked)
        self._training = TrainingSpec.model_validate(parameters.get("training") or {})

    def run(
        self, train_sample: int, *, keep: int = 1, most_oversample: int = 100, pictures: bool = False
    ) -> dict[str, Any]:
        """Trains, encodes, measures and publishes; returns what the job shows as its result.

        The `keep` generations before it are kept. A contract's recall is tuned to with an oversample of at most
        `most_oversample`. With `pictures` the training is drawn as well.

        Raises:
            TooFewItems, CollectionNotFound, TrainingStopped, CodecError
            InvalidInput, ContractBroken: codes are longer, or their recall is lower, than the contract allows.
        """
        began = time.monotonic()
        if (published := self._published_already()) is not None:
            return published
        if self._contract is not None:
            self._contract.check(self._config, self._dim)
        self._report(0.0, "reading vectors")
        self._swap.sweep(keep)
        held_out, vectors = self._sample(train_sample)
        fitted = codec, run = fit(
            self._config,
            vectors,
            self._metric,
            self._training.config(),
            progress=self._trained,
            checkpoint=self._scratch / "checkpoint",
        )
        codec.threads, codec.device = torch.get_num_threads(), "auto"
        candidate = Candidate(self._database, self._id, self._swap, codec, held_out, self._contract)
        candidate.encode((0.6, 0.9))
        self._report(0.9, "measuring recall")
        certificate = candidate.certified(most_oversample) | {
            "held_out_error": round(run.best.held_out_error, 5),
            "trained_on": run.trained_on,
            "training_seconds": round(run.seconds, 2),
            "encoded_per_second": encode_rate(codec, vectors),
            "codec": {"kind": codec.kind, **described(self._config)},
            "seed": self._training.seed,
            "versions": versions(),
            "measured_at": time.time(),
        }
        self._report(0.95, "drawing pictures")
        drawn = draw(fitted, vectors, held_out.vectors, self._scratch) if pictures else SWITCHED_OFF
        result = {
            "generation": candidate.id,
            "certificate": certificate,
            "curve": [epoch._asdict() for epoch in run.epochs],
            "pictures": list(drawn.names),
            "no_pictures": drawn.reason,
        }
        self._report(0.97, "publishing")
        candidate.publish(certificate, result, began)
        self._swap.sweep(keep)
        self._drop_originals()
        self._database.reclaim()
        return result | {"seconds": round(time.monotonic() - began, 2)}

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
        queries = held_out_of(count, self._contract)
        chosen = np.zeros(count, np.int8)
        chosen[order[:queries]] = 2
        chosen[order[queries : queries + most]] = 1
        size = int((chosen == 1).sum())
        self._scratch.mkdir(parents=True, exist_ok=True)
        vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(size, self._dim))
        rows, held, position, written = [], [], 0, 0
        for page_rows, page in self._swap.blocks():
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
                coded = payload.codes_by_row(session, self._swap.row(session).generation_id or 0, rows)
                payload.drop_vectors(session, self._id, [row for row in rows if row % every and row in coded])
            if not rows:
                return
            last = rows[-1]

    def _published_already(self) -> dict[str, Any] | None:
        """The result of a job that was cut off after it had published, where vectors may be gone already."""
        with self._database.reading() as session:
            row = self._swap.row(session)
            if not self._drops or row.generation_id is None:
                return None
            certificate = session.get_one(GenerationRow, row.generation_id).certificate
            result = {"generation": row.generation_id, "certificate": certificate, "curve": [], "pictures": []}
        self._drop_originals()
        self._database.reclaim()
        return result | {"no_pictures": "the job was cut off after it had published"}
