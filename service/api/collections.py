"""Collections and their aliases. Knows no SQL."""

from fastapi import APIRouter, Response

from service.api.access import ADMIN, READ
from service.api.dependencies import CodewellDep
from service.api.fields import Name
from service.api.large import LargeRoute
from service.api.resources import AliasIn, AliasList, CollectionIn, CollectionList, CollectionOut

router = APIRouter(tags=["collections"], route_class=LargeRoute)


@router.post("/collections", status_code=201, dependencies=[ADMIN])
def create_collection(body: CollectionIn, codewell: CodewellDep) -> CollectionOut:
    """Makes an empty collection; an ingest into an unknown one makes it too, with the defaults."""
    codewell.catalog.create(
        body.name,
        dimension=body.dimension,
        metric=body.metric,
        encoder=body.encoder,
        codec=body.chosen_codec,
        contract=body.contract,
        retrain=body.retrain,
        log_queries=body.log_queries,
        originals=body.originals,
        chunking=body.chunking,
    )
    return CollectionOut.of(codewell.catalog.describe(body.name))


@router.get("/collections", dependencies=[READ])
def list_collections(codewell: CodewellDep) -> CollectionList:
    """Every collection by name."""
    return CollectionList(collections=[CollectionOut.of(one) for one in codewell.catalog.list()])


@router.get("/collections/{name}", dependencies=[READ])
def read_collection(name: str, codewell: CodewellDep) -> CollectionOut:
    """One collection by name or alias: what it takes and holds, what was measured of its codec, and whether that holds
    for the newest items.
    """
    return CollectionOut.of(codewell.catalog.describe(name), codewell.catalog.open(name).drift())


@router.delete("/collections/{name}", status_code=204, dependencies=[ADMIN])
def delete_collection(name: str, codewell: CodewellDep) -> Response:
    """Removes a collection, its items, codes, jobs and aliases. There is no way back."""
    codewell.catalog.delete(name)
    return Response(status_code=204)


@router.get("/aliases", dependencies=[READ])
def list_aliases(codewell: CodewellDep) -> AliasList:
    """Every alias and the collection it stands for."""
    return AliasList(aliases=codewell.catalog.aliases())


@router.put("/aliases/{alias}", dependencies=[ADMIN])
def point_alias(alias: Name, body: AliasIn, codewell: CodewellDep) -> AliasList:
    """Makes an alias stand for a collection, or moves it there; a search sees either the old or the new one."""
    codewell.catalog.point_alias(alias, body.collection)
    return AliasList(aliases=codewell.catalog.aliases())


@router.delete("/aliases/{alias}", status_code=204, dependencies=[ADMIN])
def remove_alias(alias: str, codewell: CodewellDep) -> Response:
    """Removes an alias; the collection stays."""
    codewell.catalog.remove_alias(alias)
    return Response(status_code=204)
