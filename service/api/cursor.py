"""The cursor of a search: the rows of the pages before, so that none is told twice or passed over. Knows no request."""

import base64
import binascii
from collections.abc import Set

import numpy as np

from service.errors import InvalidInput


def packed(rows: Set[int]) -> str:
    """The rows as text that stands in a URL or in JSON."""
    return base64.urlsafe_b64encode(np.array(sorted(rows), "<u8").tobytes()).decode()


def unpacked(cursor: str, field: str) -> frozenset[int]:
    """The rows of a cursor.

    Raises:
        InvalidInput: it is none.
    """
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
        return frozenset(np.frombuffer(raw, "<i8").tolist())
    except (binascii.Error, ValueError):
        raise InvalidInput("that is no cursor of a search; send the one of the page before", field=field) from None
