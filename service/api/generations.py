"""The generations of a collection: what was measured of them, and the way back. Knows no SQL."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from service.api import intake
from service.api.access import ADMIN, READ
from service.api.dependencies import CodewellDep, CollectionDep
from service.api.large import LargeRoute
from service.api.resources import (
    CertificateOut,
    CollectionOut,
    CollectionPatch,
    GenerationList,
    GenerationOut,
    JobOut,
    RecallOut,
    RollbackRequest,
)
from service.index.segment import IndexKind

router = APIRouter(tags=["generations"], route_class=LargeRoute)


@router.get("/collections/{name}/certificate", dependencies=[READ])
def read_certificate(name: str, codewell: CodewellDep) -> CertificateOut:
    """What was measured of the published codec before it was published."""
    return CertificateOut.of(codewell.generations.published(name))


@router.get("/collections/{name}/generations", dependencies=[READ])
def list_generations(name: str, codewell: CodewellDep) -> GenerationList:
    """Every codec that was trained, newest first: published, kept for a rollback, refused or retired."""
    return GenerationList(generations=[GenerationOut.of(one) for one in codewell.generations.list(name)])


@router.get("/collections/{name}/recall", dependencies=[READ])
def read_recall(
    collection: CollectionDep,
    codewell: CodewellDep,
    index: Literal[IndexKind.FAISS, IndexKind.BUCKETS] = IndexKind.FAISS,
    queries: Annotated[int, Query(ge=10, le=1_000, description="Live items that are asked for")] = 100,
    seconds: Annotated[float, Query(gt=0, le=60, description="How long it may take, about")] = 5.0,
    given: Annotated[str | None, Query(alias="filter", description="As a search has it, in JSON")] = None,
) -> RecallOut:
    """Where recall is lost, measured on live items now: to the codec, the shortlist or the filter, and what gives how
    much of it back at how many milliseconds.
    """
    wanted = None if given is None else intake.filter_of(given)
    return RecallOut.model_validate(codewell.losses(collection, index, wanted, queries, seconds))


@router.post("/collections/{name}/rollback", status_code=202, dependencies=[ADMIN])
def roll_back(name: str, codewell: CodewellDep, body: RollbackRequest | None = None) -> JobOut:
    """Goes back to a codec that was published before; items that came since get their codes first."""
    return JobOut.of(codewell.jobs.submit_rollback(name, (body or RollbackRequest()).generation))


@router.patch("/collections/{name}", status_code=202, dependencies=[ADMIN], responses={200: {"model": CollectionOut}})
def change_collection(
    name: str, body: CollectionPatch, codewell: CodewellDep, response: Response
) -> JobOut | CollectionOut:
    """With a `codec`, a job cuts codes to their first bytes without encoding again, measures what they keep, and
    publishes them where that is what their contract asks for. The longer ones are kept for a rollback.

    With a `retrain`, says when the collection is trained again without anybody asking, and with `log_queries`, whether
    some of the queries that it is asked are kept: 200, with the collection.
    """
    if (cut := body.cut) is not None:
        return JobOut.of(codewell.jobs.submit_cut(name, cut.bytes))
    if body.log_queries is None:
        codewell.catalog.set_retrain(name, body.retrain)
    else:
        codewell.catalog.set_log_queries(name, body.log_queries)
    response.status_code = 200
    return CollectionOut.of(codewell.catalog.describe(name))
