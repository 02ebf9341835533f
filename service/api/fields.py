"""The field types that requests share: names, ids, vectors. Knows no request."""

import base64
import binascii
from typing import Annotated, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
"""Of a collection or alias."""


def _vector(given: Any) -> NDArray[np.float32]:
    if isinstance(given, str):
        try:
            raw = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("not base64; a vector is a list of numbers or base64 of little-endian float32") from None
        if not raw or len(raw) % 4:
            raise ValueError(f"{len(raw)} bytes are not float32 numbers of 4 bytes each")
        return np.frombuffer(raw, "<f4")
    if not isinstance(given, list) or not given:
        raise ValueError("a vector is a non-empty list of numbers or base64 of little-endian float32")
    for position, number in enumerate(given):
        if type(number) is not float and type(number) is not int:
            raise ValueError(f"position {position} is not a number")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused by name as such
        try:
            return np.array(given, np.float64).astype(np.float32)
        except OverflowError:
            raise ValueError("a whole number is beyond float32") from None


Vector = Annotated[
    Any,
    BeforeValidator(_vector),
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


def _without_controls(item_id: str) -> str:
    if any(character < " " or character == "\x7f" for character in item_id):
        raise ValueError("an id holds no control characters such as NUL or a line end")
    return item_id


ItemId = Annotated[
    str, StringConstraints(min_length=1, max_length=512), BeforeValidator(_digits), AfterValidator(_without_controls)
]
"""Of an item; a whole number is taken as its digits."""


class Strict(BaseModel):
    """Unknown fields are refused: a typo must not be ignored."""

    model_config = ConfigDict(extra="forbid")
