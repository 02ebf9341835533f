"""The way back to a generation that was published before. Runs in a job's own process; trains and measures nothing."""

import time
from collections.abc import Mapping
from typing import Any

import torch

from models import load_codec
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
        if published != self._generation_id:  # else the job was cut off after it had swapped
            codec = load_codec(saved)
            codec.threads = torch.get_num_threads()
            last = self._swap.encode(codec, self._generation_id, 0, (0.0, 0.9))
            self._swap.publish(codec, self._generation_id, last, GenerationState.KEPT)
        self._swap.sweep(keep)
        return {
            "generation": self._generation_id,
            "before": self._before,
            "certificate": certificate,
            "pictures": [],
            "seconds": round(time.monotonic() - began, 2),
        }
