"""What goes in and is read, as JSON. Knows the service's types, not how they come about."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from service.api.fields import Cursor, Include, ItemId, MetadataFilter, Name, Strict, Vector, is_text
from service.api.problems import field_path, readable
from service.errors import CodewellError
from service.latents import Latent
from service.query import Hit
from service.receipt import ItemResult, ItemStatus, Receipt
from service.span import Span
from service.terms import WriteMode


class ItemIn(Strict):
    """An item: text, vector or both; with both, the vector is searched and the text is kept."""

    id: ItemId | None = Field(None, description="Made where none is given")
    text: Annotated[str, StringConstraints(min_length=1)] | None = None
    vector: Vector | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    if_seq: int | None = Field(
        None, ge=0, description="Written only if this is the item's last change; 0: only if there is no such item"
    )


@dataclass(frozen=True)
class Unreadable:
    """An item that is not of the form: it is rejected by itself, not with its batch."""

    id: str | None
    field: str
    detail: str


def _kept(given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(given)
    except ValidationError as error:
        first = error.errors()[0]
        named = given.get("id") if isinstance(given, dict) else None
        return Unreadable(named if is_text(named) else None, field_path(first["loc"]), readable(first))


Incoming = Annotated[ItemIn, WrapValidator(_kept)]
"""An item, or an `Unreadable` in its place."""


class IngestRequest(Strict):
    """Items to insert or, where their id exists, to replace."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [{"id": "otter", "text": "It holds hands asleep", "metadata": {"legs": 4, "home": "river"}}]},
                {"collection": "vectors", "items": [{"id": "a", "vector": [0.1, 0.2, 0.3]}]},
            ]
        }
    )

    collection: Name = "default"
    items: list[Incoming] = Field(description="An item that cannot be kept is rejected by itself")
    atomic: bool = Field(False, description="Keep all items or none")
    mode: WriteMode = Field(WriteMode.UPSERT, description="insert rejects what exists, update what does not")


class ItemError(BaseModel):
    """Why an item was rejected."""

    title: str
    field: str | None
    detail: str

    @classmethod
    def of(cls, error: CodewellError, *, within_batch: bool) -> "ItemError":
        """An item's error; in a stream, a field is named within its line."""
        field = error.field
        if field is not None and not within_batch:
            field = field.partition("].")[2] or None
        return cls(title=error.title, field=field, detail=error.detail)


class ItemOut(BaseModel):
    """What became of an item."""

    id: str | None
    status: ItemStatus
    error: ItemError | None = None
    warning: str | None = Field(None, description="What the encoder left out of a text that is longer than it reads")
    line: int | None = Field(None, description="Where it stood in a streamed ingest, from 1")

    @classmethod
    def of(cls, result: ItemResult, line: int | None = None) -> "ItemOut":
        """The outcome of one item."""
        return cls(
            id=result.id,
            status=result.status,
            error=None if result.error is None else ItemError.of(result.error, within_batch=line is None),
            warning=result.warning,
            line=line,
        )


class Counts(BaseModel):
    """Items by outcome."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0


class IngestResponse(BaseModel):
    """Everything it counts as inserted or updated is committed."""

    collection: str
    seq: int
    counts: Counts
    results: list[ItemOut]

    @classmethod
    def of(cls, receipt: Receipt) -> "IngestResponse":
        """The answer for a receipt."""
        counts = Counts(**{status.value: receipt.count(status) for status in ItemStatus})
        results = [ItemOut.of(result) for result in receipt.results]
        return cls(collection=receipt.collection, seq=receipt.seq, counts=counts, results=results)


class StreamResponse(IngestResponse):
    """What came of a stream; `results` lists its first rejected lines."""

    shortened: int = Field(description="Texts that were longer than their encoder reads")
    committed_through_line: int


class ItemRead(BaseModel):
    """An item as it is stored."""

    id: str
    text: str | None
    metadata: dict[str, Any]
    vector: list[float] | None = Field(None, description="Of a text that is cut, the mean of its chunks' vectors")
    chunks: list[Span] | None = Field(
        None, description="Where its text is cut: the characters [start, end) of each chunk, as code points"
    )
    seq: int = Field(description="Its last change: `if_seq` of a write that must not undo a later one")
    created_at: float
    updated_at: float

    @classmethod
    def of(cls, hit: Hit) -> "ItemRead":
        """The item of a hit."""
        return cls(
            id=hit.item.item_id,
            text=hit.item.text,
            metadata=json.loads(hit.item.metadata),
            vector=None if hit.vector is None else hit.vector.tolist(),
            chunks=hit.item.spans or None,
            seq=hit.item.seq,
            created_at=hit.item.created_at,
            updated_at=hit.item.updated_at,
        )


class ItemPatch(Strict):
    """A change of metadata: null removes a key, objects merge, anything else replaces (JSON Merge Patch)."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"metadata": {"legs": 4, "seen": {"at": "2026-01-31"}, "draft": None}}]}
    )

    metadata: dict[str, Any]


class IdList(Strict):
    """Ids of items."""

    ids: list[ItemId]


class GetRequest(IdList):
    """Items to read."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": ["otter", "dodo"], "include": ["text"]}]})

    include: tuple[Include, ...] = Field(("text", "metadata"), max_length=10)


class ItemsRead(BaseModel):
    """The items that exist, in the order asked for, and the ids that do not."""

    items: list[ItemRead]
    missing: list[str]


class DeleteRequest(Strict):
    """Items to remove: either their ids, or what their metadata is like."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ids": ["otter"]}, {"filter": {"home": "river", "legs": {"$lt": 4}}}]}
    )

    ids: list[ItemId] | None = None
    filter: MetadataFilter = None


class Deleted(BaseModel):
    """What a deletion did; it is committed. Ids are listed where they were asked for."""

    seq: int
    count: int = Field(description="Items removed")
    deleted: list[str] = []
    missing: list[str] = []


class CountRequest(Strict):
    """Which items to count; without a filter, all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filter": {"legs": 0, "home": "river"}}]})

    filter: MetadataFilter = None


class Counted(BaseModel):
    """How many there are."""

    count: int


class ScrollRequest(CountRequest):
    """A page of items; without a filter, of all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filter": {"legs": {"$gte": 2}}, "limit": 50}]})

    limit: int = Field(100, ge=1, description="Most items of the page")
    cursor: Cursor | None = Field(None, description="That of the page before")
    include: tuple[Include, ...] = Field(("text", "metadata"), max_length=10)


class ScrollPage(BaseModel):
    """Items in the order in which their vectors came."""

    items: list[ItemRead]
    cursor: str | None = Field(description="Asks for the next page; none on the last")


class FacetRequest(CountRequest):
    """Which values to count, over which items."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"path": "home", "filter": {"legs": 4}}]})

    path: str = Field(min_length=1, description="Of metadata, nested keys by dots")
    limit: int = Field(100, ge=1, le=10_000, description="Most values; the most frequent come first")


class Facet(BaseModel):
    """A value and how many items have it."""

    value: bool | float | str
    count: int


class Facets(BaseModel):
    """Values by frequency; an item with a list counts for each of its values."""

    facets: list[Facet]


class LatentsRequest(CountRequest):
    """Over which items to count; without a filter, over all."""

    limit: int = Field(50, ge=1, le=1_000, description="Most latents; those of most items come first")


class LatentList(BaseModel):
    """Latents by the number of items in which they are active."""

    latents: list[Latent]
