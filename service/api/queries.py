"""The queries that a collection's codecs are measured by. Knows no SQL."""

from fastapi import APIRouter, Response

from service.api import intake
from service.api.access import ADMIN, READ
from service.api.dependencies import CodewellDep, CollectionDep
from service.api.large import LargeRoute
from service.api.resources import QueriesIn, QueriesOut

router = APIRouter(prefix="/collections/{name}/queries", tags=["generations"], route_class=LargeRoute)


@router.post("", dependencies=[ADMIN])
def give_queries(body: QueriesIn, collection: CollectionDep, codewell: CodewellDep) -> QueriesOut:
    """Adds queries like those of your users, by which trainings, cuts and plans then measure: 100 of them or more, and
    of more than 2,000 the newest. Only their vectors are kept.
    """
    collection.give_queries(*intake.to_encode(body, collection, codewell.settings))
    return QueriesOut.model_validate(collection.held_queries())


@router.get("", dependencies=[READ])
def count_queries(collection: CollectionDep) -> QueriesOut:
    """How many there are."""
    return QueriesOut.model_validate(collection.held_queries())


@router.delete("", status_code=204, dependencies=[ADMIN])
def forget_queries(collection: CollectionDep) -> Response:
    """Removes all of them; codecs are measured by items that are set apart again."""
    collection.forget_queries()
    return Response(status_code=204)
