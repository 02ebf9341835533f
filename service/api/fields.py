"""The field types that requests share: names, ids, vectors, filters. Knows no request."""

from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from service.given import COLLECTION_NAME, LONGEST_ID, given_id, given_vector

Name = Annotated[str, StringConstraints(pattern=COLLECTION_NAME)]
"""Of a collection or alias."""


Vector = Annotated[
    Any,
    BeforeValidator(given_vector),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "number"}, "minItems": 1},
                {"type": "string", "contentEncoding": "base64", "description": "little-endian float32"},
            ]
        }
    ),
]


def is_text(value: Any) -> TypeGuard[str]:
    """Whether a value is a string that UTF-8 can hold; JSON can name halves of characters that it cannot."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _digits(given: Any) -> Any:
    return str(given) if type(given) is int else given


ItemId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_ID),
    BeforeValidator(_digits),
    AfterValidator(given_id),
]
"""Of an item; a whole number is taken as its digits."""


Include = Literal["text", "metadata", "vector"]
"""What an item or a hit carries beside its id."""


Cursor = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")]
"""Where a page ended; what it says is the service's own."""


MetadataFilter = Annotated[
    dict[str, Any] | None,
    Field(
        description="What the metadata of hits must be like: $eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not",
        examples=[{"legs": {"$gte": 4}, "$or": [{"home": "river"}, {"home": {"$in": ["lake", "sea"]}}]}],
    ),
]


class Strict(BaseModel):
    """Unknown fields are refused: a typo must not be ignored."""

    model_config = ConfigDict(extra="forbid")
