"""The way back to a generation that was published before. Runs in a job's own process; trains and measures nothing."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from sqlalchemy.orm import Session

from models import ResidualCodec, load_codec
from service.codec_spec import spec_of
from service.errors import GenerationNotFound
from service.store.database import Database
from service.store.tables import GenerationRow
from service.swap import Fence, GenerationState, Report, Swap


class Rollback:
    """Gives a kept generation the codes of what came since and publishes it; the one it replaces is kept instead."""

    def __init__(
        self, database: Database, collection_id: int, parameters: Mapping[str, Any], report: Report, fence: Fence
    ) -> None:
        self._database = database
        self._generation_id = int(parameters["generation"])
        self._before = int(parameters["before"])
        self._swap = Swap(database, collection_id, report, fence)

    def run(self, keep: int) -> dict[str, Any]:
        """What the job shows as its result.

        Raises:
            GenerationNotFound, NotKept, CollectionNotFound, TrainingStopped, CodecError
        """
        began = time.monotonic()
        with self._database.reading() as session:
            published = self._swap.row(session).generation_id
            generation = session.get(GenerationRow, self._generation_id)
            if generation is None:
                raise GenerationNotFound(f"there is no generation {self._generation_id}", field="generation")
            saved, certificate = generation.codec, generation.certificate
            spec = _uncut(session, published, self._generation_id)
        if published != self._generation_id:  # else the job was cut off after it had swapped
            codec = load_codec(saved)
            codec.threads = torch.get_num_threads()
            if isinstance(codec, ResidualCodec) and "cut_from" in certificate:
                spec = spec_of(codec.config)
            last = self._swap.encode(codec, self._generation_id, 0, (0.0, 0.9))
            self._swap.publish(codec, self._generation_id, last, GenerationState.KEPT, spec=spec)
        self._swap.sweep(keep)
        return {
            "generation": self._generation_id,
            "before": self._before,
            "certificate": certificate,
            "pictures": [],
            "seconds": round(time.monotonic() - began, 2),
        }


def _uncut(session: Session, published: int | None, wanted: int) -> Mapping[str, Any] | None:
    """What the collection was to train before the published codes were cut from the wanted ones; none where they were
    not.
    """
    over = None if published is None else session.get(GenerationRow, published)
    while over is not None and (cut := over.certificate.get("cut_from")) is not None:
        if cut["generation"] == wanted:
            return dict(cut["codec"])
        over = session.get(GenerationRow, cut["generation"])
    return None
