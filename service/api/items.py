"""Single items and lists of ids. Knows no SQL."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.api import intake
from service.api.access import READ, WRITE
from service.api.dependencies import CodewellDep, CollectionDep
from service.api.fields import Include
from service.api.large import LargeRoute
from service.api.limits import at_most
from service.api.schemas import (
    Counted,
    CountRequest,
    Deleted,
    DeleteRequest,
    Facet,
    FacetRequest,
    Facets,
    GetRequest,
    ItemPatch,
    ItemRead,
    ItemsRead,
    ScrollPage,
    ScrollRequest,
)
from service.errors import ItemNotFound

IfSeq = Annotated[int | None, Query(ge=1, description="Only if this is the item's last change; else 409")]

router = APIRouter(prefix="/collections/{name}/items", tags=["items"], route_class=LargeRoute)


@router.get("/{item_id:path}", dependencies=[READ])
def read_item(
    item_id: str, collection: CollectionDep, include: Annotated[tuple[Include, ...], Query()] = ("text", "metadata")
) -> ItemRead:
    """One item as it is stored; `include=vector` adds its vector."""
    (hit,) = collection.get([item_id], vectors="vector" in include)
    if hit is None:
        raise ItemNotFound(item_id, field="id")
    return ItemRead.of(hit)


@router.patch("/{item_id:path}", dependencies=[WRITE])
def patch_item(
    item_id: str, body: ItemPatch, collection: CollectionDep, codewell: CodewellDep, if_seq: IfSeq = None
) -> ItemRead:
    """Changes metadata by JSON Merge Patch; the vector is not encoded again."""
    settings = codewell.settings
    hit = collection.patch(
        item_id,
        body.metadata,
        settings.max_metadata_bytes,
        if_seq,
        max_depth=settings.max_metadata_depth,
        quota=codewell.quota,
    )
    return ItemRead.of(hit)


@router.delete("/{item_id:path}", status_code=204, dependencies=[WRITE])
def delete_item(item_id: str, collection: CollectionDep, if_seq: IfSeq = None) -> Response:
    """Removes one item; the answer means that it is committed."""
    _, deleted = collection.delete([item_id], if_seq)
    if not deleted:
        raise ItemNotFound(item_id, field="id")
    return Response(status_code=204)


@router.post("/get", dependencies=[READ])
def get_items(body: GetRequest, collection: CollectionDep, codewell: CodewellDep) -> ItemsRead:
    """Many items by id; those that do not exist are listed as missing."""
    intake.counted(body.ids, "ids", codewell.settings)
    hits = collection.get(body.ids, vectors="vector" in body.include)
    found = [ItemRead.of(hit) for hit in hits if hit is not None]
    return ItemsRead(items=found, missing=[item_id for item_id, hit in zip(body.ids, hits, strict=True) if hit is None])


@router.post("/scroll", dependencies=[READ])
def scroll_items(body: ScrollRequest, collection: CollectionDep, codewell: CodewellDep) -> ScrollPage:
    """Lists items page by page, all or those of a filter.

    The order is that in which vectors came. Whatever is written meanwhile, an item is listed once; one whose vector
    changed moves to the end and is listed there, as it is then.
    """
    at_most(body.limit, "limit", codewell.settings)
    hits, cursor = collection.scroll(
        intake.wanted(body.filter), int(body.cursor or 0), body.limit, vectors="vector" in body.include
    )
    return ScrollPage(items=[ItemRead.of(hit) for hit in hits], cursor=None if cursor is None else str(cursor))


@router.post("/count", dependencies=[READ])
def count_items(body: CountRequest, collection: CollectionDep) -> Counted:
    """Counts items, all or those of a filter."""
    return Counted(count=collection.count(intake.wanted(body.filter)))


@router.post("/facets", dependencies=[READ])
def count_values(body: FacetRequest, collection: CollectionDep) -> Facets:
    """Counts the items that have each value at a path of the metadata."""
    counts = collection.facets(body.path, intake.wanted(body.filter), body.limit)
    return Facets(facets=[Facet(value=value, count=count) for value, count in counts])


@router.post("/delete", dependencies=[WRITE])
def delete_items(body: DeleteRequest, collection: CollectionDep, codewell: CodewellDep) -> Deleted:
    """Removes many items: by id, where those that do not exist are listed as missing, or by filter, in one step."""
    asked = intake.deletion(body, codewell.settings)
    if not isinstance(asked, list):
        seq, count = collection.delete_chosen(asked)
        return Deleted(seq=seq, count=count)
    seq, deleted = collection.delete(asked)
    return Deleted(
        seq=seq,
        count=len(deleted),
        deleted=[item_id for item_id in asked if item_id in deleted],
        missing=[item_id for item_id in asked if item_id not in deleted],
    )
