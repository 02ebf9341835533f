"""Whether a job may begin: what it needs of its collection, and what must not be under way; and its row. Knows no
process.
"""

import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from models import PREFIXED, cut_config
from service.compare.vectors import FEWEST
from service.drift import FEWEST_NEW, Look
from service.errors import (
    Conflict,
    GenerationNotFound,
    InvalidInput,
    NoPrefixes,
    NotKept,
    NotTrained,
    OriginalsDropped,
    TooFewItems,
)
from service.job import ACTIVE, PUBLISHING, JobKind, JobState
from service.originals import Originals
from service.retrain import RetrainSpec
from service.store.tables import CollectionRow, GenerationRow, JobRow
from service.swap import GenerationState

FEWEST_ITEMS = 100
"""Below this, exact search costs nothing and a codec learns nothing."""
FEWEST_PLANNED = FEWEST
"""Vectors of which some can be asked for and others searched."""


def few(items: int) -> str:
    """What is said of too few items for a plan."""
    return f"the collection has {items} items; a plan needs {FEWEST_PLANNED}, and exact search serves fewer"


def had_training(collection_id: Any) -> ColumnElement[bool]:
    """Whether the collection has or had a job that publishes."""
    return exists().where(JobRow.collection_id == collection_id, JobRow.kind.in_(PUBLISHING))


def is_retraining_due(session: Session, row: CollectionRow, look: Look, now: float) -> bool:
    """Whether the collection's policy asks for a training after this look at its drift, and none stands against it."""
    policy = None if row.retrain is None else RetrainSpec.model_validate(row.retrain)
    if policy is None or row.generation_id != look.generation_id or row.row_count < FEWEST_ITEMS:
        return False
    if not policy.is_met(look.drift) or _active(session, row, PUBLISHING) is not None:
        return False
    begun = select(JobRow).where(JobRow.collection_id == row.id, JobRow.reason.is_not(None))
    last = session.scalars(begun.order_by(JobRow.created_at.desc()).limit(1)).first()
    if last is None or last.reason is None:
        return True
    hours = (now - last.created_at) / 3_600
    return hours >= policy.at_most_every_hours and row.seq - last.reason["seq"] >= FEWEST_NEW


def asked_for(session: Session, row: CollectionRow) -> Mapping[str, Any]:
    """The request of the training that made the published codec; nothing, which is the collection's own codec and
    contract, where another kind of job made it.
    """
    trainings = select(JobRow.parameters, JobRow.result).where(
        JobRow.collection_id == row.id, JobRow.kind == JobKind.TRAIN, JobRow.state == JobState.SUCCEEDED
    )
    for parameters, result in session.execute(trainings.order_by(JobRow.created_at.desc())):
        if (result or {}).get("generation") == row.generation_id:
            return dict(parameters)
    return {}


def check_can_be_cut(session: Session, row: CollectionRow, size: int) -> None:
    """Raises NotTrained, Conflict, NoPrefixes, InvalidInput, OriginalsDropped, TooFewItems."""
    if row.generation_id is None:
        raise NotTrained(row.name, field="codec")
    certificate = session.get_one(GenerationRow, row.generation_id).certificate
    kind, present = certificate["codec"]["kind"], certificate["code_bytes"]
    config = {name: value for name, value in certificate["codec"].items() if name != "kind"}
    if row.codec.get("kind") == "auto":
        raise Conflict(
            "the collection's codec is auto: a plan chooses it, and a cut would end that; train with a contract whose "
            f'"max_bytes" is {size}, which the plan then keeps to',
            field="codec.kind",
        )
    if cut_config(kind, config, 1) is None:
        raise NoPrefixes(
            f"the first bytes of the published codes, which are of the kind {kind}, are no codes; those of {PREFIXED} "
            "are: train one of these first",
            field="codec.kind",
        )
    if size >= present:
        wanted = f"1 to {present - 1}" if present > 1 else "none: they cannot be cut further"
        raise InvalidInput(
            f"the published codes have {present} bytes, which can be cut to {wanted}; for longer ones train again",
            field="codec.bytes",
        )
    if row.originals == Originals.DROP:
        raise OriginalsDropped(
            "without the vectors nobody can measure what the cut codes keep; ingest them into a new collection and "
            "train it with as many bytes as wanted",
            field="collection",
        )
    if row.row_count < FEWEST_ITEMS:
        raise TooFewItems(
            f"the collection has {row.row_count} items; a cut needs {FEWEST_ITEMS} to be measured, and saves nothing "
            "with fewer",
            field="collection",
        )


def check_idle(session: Session, row: CollectionRow, kinds: Collection[JobKind]) -> None:
    """Raises Conflict: two jobs at once would publish over each other, and two plans ask the same."""
    if (running := _active(session, row, kinds)) is not None:
        raise Conflict(f"job {running} is under way; wait for it, or cancel it by DELETE /jobs/{running}")


def _active(session: Session, row: CollectionRow, kinds: Collection[JobKind]) -> str | None:
    """The job of one of these kinds that is queued or running."""
    own = select(JobRow.id).where(JobRow.collection_id == row.id, JobRow.state.in_(ACTIVE), JobRow.kind.in_(kinds))
    return session.scalars(own).first()


def kept_generation(session: Session, row: CollectionRow, generation_id: int | None) -> int:
    """The generation to go back to: the one of that id, or the one that was published last before this one.

    Raises:
        NotKept; GenerationNotFound
    """
    own = select(GenerationRow).where(GenerationRow.collection_id == row.id)
    if generation_id is None:
        kept = own.where(GenerationRow.state == GenerationState.KEPT)
        newest = session.scalars(kept.order_by(GenerationRow.published_at.desc())).first()
        if newest is None:
            raise NotKept(
                "no generation was published before this one, or its codes were freed: CODEWELL_KEEP_GENERATIONS says "
                "how many are kept",
                field="generation",
            )
        return newest.id
    generation = session.scalars(own.where(GenerationRow.id == generation_id)).first()
    if generation is None:
        raise GenerationNotFound(
            f"there is no generation {generation_id}; GET /collections/{row.name}/generations lists them",
            field="generation",
        )
    if generation.state != GenerationState.KEPT:
        raise NotKept(
            f"generation {generation_id} is {generation.state}; the way back leads to one that is kept",
            field="generation",
        )
    return generation.id


def queued(session: Session, row: CollectionRow, kind: str, parameters: Mapping[str, Any]) -> JobRow:
    """A new job, written with the transaction."""
    job = JobRow(
        id=uuid.uuid4().hex,
        collection_id=row.id,
        kind=kind,
        parameters=dict(parameters),
        state=JobState.QUEUED,
        cancel_requested=False,
        starts=0,
        progress=0.0,
        message="",
        created_at=time.time(),
    )
    session.add(job)
    return job
