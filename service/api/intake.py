"""From what was sent to what the service takes, within the limits of the settings. Knows no database."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from models import Vectors
from service.api.cursor import unpacked
from service.api.encoding_schemas import TextsOrVectors
from service.api.limits import at_most, most
from service.api.schemas import DeleteRequest, IngestRequest, ItemIn, Unreadable
from service.api.search_schemas import ExampleIn, QueryIn, SearchRequest, WeightsIn
from service.collection import Collection
from service.errors import EmptyBatch, InvalidInput, LimitExceeded
from service.filter import Every, Filter, parsed
from service.fusion import Fusion, ReciprocalRank, Weights
from service.index.segment import IndexKind
from service.item import Malformed, NewItem, checked_metadata
from service.query import RRF, Example, Mode, Query
from service.search import OVERSAMPLE, Plan, Stage
from service.settings import Settings


def items(request: IngestRequest, settings: Settings) -> list[NewItem | Malformed]:
    """The batch.

    Raises:
        EmptyBatch, InvalidInput: more items than a request may have.
    """
    counted(request.items, "items", settings)
    return [item(given, f"items[{position}]", settings) for position, given in enumerate(request.items)]


def item(given: ItemIn | Unreadable, field: str, settings: Settings) -> NewItem | Malformed:
    """One item, or why it cannot be taken; `field` is where it stands."""
    if isinstance(given, Unreadable):
        return Malformed(given.id, InvalidInput(given.detail, field=f"{field}.{given.field}" if given.field else field))
    refusal = _refusal(given, field, settings)
    if refusal is not None:
        return Malformed(given.id, refusal)
    return NewItem(given.id or uuid.uuid4().hex, given.text, given.vector, given.metadata, given.if_seq)


def queries(request: SearchRequest, settings: Settings) -> list[tuple[str, Query, QueryIn]]:
    """The collection's name, the question and its own request, for one question or many.

    Raises:
        EmptyBatch, InvalidInput
    """
    if request.queries is None:
        return _within([(request.collection, _query(request, "", settings), request)], settings)
    alone = sorted(request.model_fields_set - {"queries", "collection"})
    if alone:
        raise InvalidInput("with 'queries', each query carries its own fields", field=alone[0])
    counted(request.queries, "queries", settings)
    asked = [
        (
            given.collection if "collection" in given.model_fields_set else request.collection,
            _query(given, f"queries[{position}].", settings),
            given,
        )
        for position, given in enumerate(request.queries)
    ]
    return _within(asked, settings)


def questions(given: Sequence[QueryIn], collection: str, settings: Settings) -> list[tuple[str, Query, QueryIn]]:
    """The same of lines that stand for themselves; `collection` is that of those that name none.

    Raises:
        InvalidInput
    """
    named = [one.collection if "collection" in one.model_fields_set else collection for one in given]
    return _within([(name, _query(one, "", settings), one) for name, one in zip(named, given, strict=True)], settings)


def deletion(request: DeleteRequest, settings: Settings) -> list[str] | Filter:
    """The ids to remove, each once, or the filter.

    Raises:
        EmptyBatch, InvalidInput: neither or both, too many ids, or a filter that chooses everything.
    """
    if (request.ids is None) == (request.filter is None):
        raise InvalidInput("give either ids or a filter", field="ids")
    if request.ids is not None:
        counted(request.ids, "ids", settings)
        return list(dict.fromkeys(request.ids))
    if not request.filter:
        raise InvalidInput("an empty filter would remove every item; delete the collection instead", field="filter")
    return parsed(request.filter)


def texts(given: Sequence[str], field: str, settings: Settings) -> Sequence[str]:
    """Texts to encode.

    Raises:
        EmptyBatch, InvalidInput: too many, or one is too long.
    """
    counted(given, field, settings)
    for place, text in enumerate(given):
        _checked_text(text, f"{field}[{place}]", settings)
    return given


def check_dimensions(dimensions: int | None, collection: Collection) -> None:
    """Raises InvalidInput where vectors of another length than the collection's are asked for."""
    if dimensions not in (None, collection.dim):
        raise InvalidInput(f"the vectors of this collection have {collection.dim} numbers", field="dimensions")


def to_encode(request: TextsOrVectors, collection: Collection, settings: Settings) -> tuple[Sequence[Vectors], str]:
    """(D,) vectors, given or of texts, and the field that they come from.

    Raises:
        InvalidInput: neither or both are given; NoEncoder, EncoderFailed
    """
    if request.texts is not None and request.vectors is None:
        return list(collection.embed(texts(request.texts, "texts", settings), "texts")), "texts"
    if request.vectors is None or request.texts is not None:
        raise InvalidInput("give either texts or vectors", field="texts")
    counted(request.vectors, "vectors", settings)
    return request.vectors, "vectors"


def wanted(given: dict[str, Any] | None) -> Filter:
    """What a filter chooses; everything, where there is none."""
    return Every() if given is None else parsed(given)


def filter_of(given: str) -> Filter:
    """A filter that came as text, in a URL."""
    try:
        return parsed(json.loads(given))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is no JSON: {error}", field="filter") from error


def counted(values: Sequence[object], field: str, settings: Settings) -> None:
    """Raises EmptyBatch or LimitExceeded where there are none or too many."""
    if not values:
        raise EmptyBatch(f"'{field}' is empty; send 1 to {most(field, settings)}", field=field)
    at_most(len(values), field, settings)


def _within(asked: list[tuple[str, Query, QueryIn]], settings: Settings) -> list[tuple[str, Query, QueryIn]]:
    shortlisted = sum(query.pool.k * query.pool.oversample for _, query, _ in asked)
    if shortlisted > settings.max_shortlist:
        raise LimitExceeded(
            f"k * oversample is {shortlisted} over all queries; {settings.max_shortlist} is the most of a request",
            field="oversample" if len(asked) == 1 else "queries",
            limit=settings.max_shortlist,
            setting="max_shortlist",
        )
    return asked


def _query(given: QueryIn, field: str, settings: Settings) -> Query:
    if given.k > settings.max_k:
        raise LimitExceeded(
            f"{given.k} is more than the {settings.max_k} hits a query may ask for",
            field=f"{field}k",
            limit=settings.max_k,
            setting="max_k",
        )
    if given.oversample is not None and given.oversample > settings.max_oversample:
        raise LimitExceeded(
            f"{given.oversample} is above {settings.max_oversample}",
            field=f"{field}oversample",
            limit=settings.max_oversample,
            setting="max_oversample",
        )
    _checked_mode(given, field, settings)
    return Query(
        positive=(*_own_example(given, field, settings), *_examples(given.positive, f"{field}positive", settings)),
        negative=_examples(given.negative, f"{field}negative", settings),
        plan=Plan(
            given.k, given.oversample or OVERSAMPLE, given.index, given.stage, given.scan or 0, probes=given.probes
        ),
        field=field,
        mode=given.mode,
        text=given.text,
        fusion=_fusion(given),
        snippet="snippet" in given.include,
        filter=None if given.filter is None else parsed(given.filter, f"{field}filter"),
        min_score=given.min_score,
        diversity=given.diversity,
        group_by=given.group_by,
        group_size=given.group_size,
        seen=_seen(given, field, settings),
        boost=given.boost,
        suppress=given.suppress,
        explain=given.explain,
        # Lists that are fused need some depth, however good the codes are.
        tuned=given.oversample is None and given.mode is not Mode.HYBRID,
    )


def _checked_mode(given: QueryIn, field: str, settings: Settings) -> None:
    """Raises InvalidInput where the mode has no use for what stands beside it."""
    if given.text is None and (given.mode is not Mode.VECTOR or "snippet" in given.include):
        asked = "a snippet" if given.mode is Mode.VECTOR else f"the mode {given.mode}"
        raise InvalidInput(f"{asked} looks for the words of a 'text'; give one", field=f"{field}text")
    _checked_text(given.text, f"{field}text", settings)
    if given.probes is not None and given.index is not IndexKind.BUCKETS:
        raise InvalidInput(f"the index {given.index} has no buckets; take the index buckets", field=f"{field}probes")
    if given.fusion is not None and given.mode is not Mode.HYBRID:
        raise InvalidInput("only the mode hybrid has two lists to fuse", field=f"{field}fusion")
    if isinstance(given.fusion, WeightsIn) and given.group_by is not None:
        raise InvalidInput(
            "weighted scores do not compare from group to group; take the kind rrf", field=f"{field}fusion"
        )
    if given.mode is Mode.HYBRID and given.stage is Stage.SHORTLIST:
        raise InvalidInput(
            "the mode hybrid scores what words found by its codes: refine at least", field=f"{field}stage"
        )
    if given.mode is Mode.TEXT:
        for name in ("vector", "id", "positive", "negative", "stage", "boost", "suppress", "explain"):
            if given.vector is not None if name == "vector" else getattr(given, name):
                raise InvalidInput("the mode text ranks by words alone; take the mode hybrid", field=f"{field}{name}")
        if given.index is not IndexKind.FAISS:
            raise InvalidInput("the mode text looks at no vectors; leave it out", field=f"{field}index")


def _fusion(given: QueryIn) -> Fusion:
    if given.fusion is None:
        return RRF
    return Weights(given.fusion.text) if isinstance(given.fusion, WeightsIn) else ReciprocalRank(given.fusion.k)


def _own_example(given: QueryIn, field: str, settings: Settings) -> list[Example]:
    """What the query itself says of vectors: its one of text, vector and id; in hybrid, that beside the text."""
    if given.mode is Mode.TEXT:
        return []
    asked = [name for name in ("text", "vector", "id") if getattr(given, name) is not None]
    if given.mode is Mode.HYBRID and len(asked) > 1:
        given = given.model_copy(update={"text": None})
    elif len(asked) > 1 or not (asked or given.positive):
        raise InvalidInput(
            f"give exactly one of text, vector and id, not {asked or 'none'}; the mode hybrid takes a text and another",
            field=f"{field}text",
        )
    return [_example(given, field, settings)] if asked else []


def _examples(given: Sequence[ExampleIn], field: str, settings: Settings) -> tuple[Example, ...]:
    return tuple(_example(example, f"{field}[{place}].", settings) for place, example in enumerate(given))


def _example(given: ExampleIn, field: str, settings: Settings) -> Example:
    asked = [name for name in ("text", "vector", "id") if getattr(given, name) is not None]
    if len(asked) != 1:
        raise InvalidInput(f"give exactly one of text, vector and id, not {asked or 'none'}", field=f"{field}text")
    _checked_text(given.text, f"{field}text", settings)
    return Example(given.text, given.vector, given.id, field)


def _checked_text(text: str | None, field: str, settings: Settings) -> None:
    if text is not None and len(text) > settings.max_text_chars:
        raise LimitExceeded(
            f"the text is longer than {settings.max_text_chars} characters",
            field=field,
            limit=settings.max_text_chars,
            setting="max_text_chars",
        )


def _seen(given: QueryIn, field: str, settings: Settings) -> frozenset[int]:
    if given.diversity and given.group_by is not None:
        raise InvalidInput("hits are either diverse or grouped", field=f"{field}diversity")
    if given.cursor is None:
        return frozenset()
    if given.diversity or given.group_by is not None:
        raise InvalidInput("diverse or grouped hits have no pages: ask for more of them by k", field=f"{field}cursor")
    seen = unpacked(given.cursor, f"{field}cursor")
    if len(seen) + given.k > settings.max_k:
        raise LimitExceeded(
            f"pages end at {settings.max_k} hits; narrow the search by a filter, or list items by scroll",
            field=f"{field}cursor",
            limit=settings.max_k,
            setting="max_k",
        )
    return seen


def _refusal(given: ItemIn, field: str, settings: Settings) -> InvalidInput | None:
    if given.text is None and given.vector is None:
        return InvalidInput("an item has text, a vector or both; this one has neither", field=f"{field}.text")
    if given.text is not None and "\0" in given.text:
        return InvalidInput("the text holds a NUL character, which databases do not store", field=f"{field}.text")
    if given.vector is not None and given.vector.size > settings.max_dimension:
        return LimitExceeded(
            f"the vector has {given.vector.size} numbers; {settings.max_dimension} is the most",
            field=f"{field}.vector",
            limit=settings.max_dimension,
            setting="max_dimension",
        )
    try:
        _checked_text(given.text, f"{field}.text", settings)
        checked_metadata(given.metadata, settings.max_metadata_bytes, f"{field}.metadata", settings.max_metadata_depth)
    except InvalidInput as error:
        return error
    return None
