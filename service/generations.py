"""The generations of a collection as a user sees them. Knows no training and no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from service.errors import GenerationNotFound
from service.store import store
from service.store.database import Database
from service.store.tables import GenerationRow
from service.swap import GenerationState


@dataclass(frozen=True)
class Generation:
    """A codec of a collection, published or not, and what was measured of it."""

    id: int
    collection: str
    state: GenerationState
    oversample: int
    """Of searches that name none."""
    fingerprint: str
    certificate: Mapping[str, Any]
    """Empty where it was not measured."""
    created_at: float
    published_at: float | None


class Generations:
    """Reads them, by a collection's name or alias."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, collection: str) -> list[Generation]:
        """All of them, newest first.

        Raises:
            CollectionNotFound
        """
        with self._database.reading() as session:
            row = store.found_collection(session, collection)
            own = select(GenerationRow).where(GenerationRow.collection_id == row.id).order_by(GenerationRow.id.desc())
            return [_generation(generation, row.name) for generation in session.scalars(own)]

    def published(self, collection: str) -> Generation:
        """The one that answers.

        Raises:
            CollectionNotFound; GenerationNotFound: nothing is trained yet.
        """
        with self._database.reading() as session:
            row = store.found_collection(session, collection)
            if row.generation_id is None:
                raise GenerationNotFound(
                    f"nothing is published in {row.name!r} yet, it answers exactly; POST /collections/{row.name}/train "
                    "trains a codec and measures it",
                    field="collection",
                )
            return _generation(session.get_one(GenerationRow, row.generation_id), row.name)


def _generation(row: GenerationRow, collection: str) -> Generation:
    return Generation(
        id=row.id,
        collection=collection,
        state=GenerationState(row.state),
        oversample=row.oversample,
        fingerprint=row.fingerprint,
        certificate=row.certificate,
        created_at=row.created_at,
        published_at=row.published_at,
    )
