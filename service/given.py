"""What users write for an id and a vector, and what is meant by it. Knows no request, no file and no dimension."""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLLECTION_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
"""Of aliases, too."""
LONGEST_ID = 512
"""Characters."""


def given_id(given: Any) -> str:
    """The id; a whole number is taken as its digits.

    Raises:
        ValueError: it is none; the message says why.
    """
    if type(given) is int:
        given = str(given)
    if not isinstance(given, str):
        raise ValueError("an id is a string or a whole number")
    if not 1 <= len(given) <= LONGEST_ID:
        raise ValueError(f"an id has 1 to {LONGEST_ID} characters, this one has {len(given)}")
    if not given.isprintable() and any(character < " " or character == "\x7f" for character in given):
        raise ValueError("an id holds no control characters such as NUL or a line end")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise ValueError("the id holds half a character, which UTF-8 cannot hold") from None
    return given


def given_vector(given: Any) -> NDArray[np.float32]:
    """(D,) numbers of a list, or of base64 of little-endian float32; a number beyond float32 becomes infinite.

    Raises:
        ValueError: it is no vector; the message says why.
    """
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
    with np.errstate(over="ignore"):  # what becomes infinite here is refused by name later
        try:
            return np.array(given, np.float64).astype(np.float32)
        except OverflowError:
            raise ValueError("a whole number is beyond float32") from None
