"""Where a part of a text stands. Knows no tokens and no SQL."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BYTES = 8
"""Of a packed span."""


class Span(NamedTuple):
    """The characters text[start:end]."""

    start: int
    end: int


def packed(spans: Sequence[Span]) -> bytes:
    """Two uint32 a span, little-endian."""
    return np.array(spans, "<u4").tobytes()


def unpacked(stored: bytes) -> list[Span]:
    """What `packed` made."""
    return [Span(start, end) for start, end in np.frombuffer(stored, "<u4").reshape(-1, 2).tolist()]
