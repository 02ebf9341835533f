"""An item on its way in: what a user sent, and whether it can be kept. Knows no SQL and no HTTP."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Metric
from service.errors import DimensionMismatch, InvalidInput, LimitExceeded, NotFinite, ZeroVector

DEEPEST_METADATA = 64
"""Levels of metadata where nobody says otherwise; writers of JSON give up at a few hundred."""
LONGEST_SQUARE, SHORTEST_SQUARE = 5e37, 1e-30
"""Squared lengths between which float32 can hold squared distances, and directions with all their digits."""


@dataclass(frozen=True)
class NewItem:
    """What a user sent. `vector` is (D,) float32."""

    id: str
    text: str | None
    vector: NDArray[np.float32] | None
    metadata: dict[str, Any]
    if_seq: int | None = None
    """The change that must be the item's last for it to be written; 0 for an item that must not exist."""

    def digest(self) -> bytes:
        """16 bytes of text and given vector: equal digests mean that nothing needs to be encoded again."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.text, self.vector):
            content = b"" if part is None else part.encode() if isinstance(part, str) else part.tobytes()
            digest.update(b"-" if part is None else len(content).to_bytes(8, "little"))
            digest.update(content)
        return digest.digest()


@dataclass(frozen=True)
class Malformed:
    """An item that could not be read at all; the rest of its batch is not lost for it."""

    id: str | None
    error: InvalidInput


def checked_vector(vector: NDArray[np.float32], dim: int, metric: Metric, field: str) -> NDArray[np.float32]:
    """The vector itself.

    Raises:
        DimensionMismatch, NotFinite, ZeroVector, InvalidInput: too long; naming `field`.
    """
    if vector.shape != (dim,):
        raise DimensionMismatch(expected=dim, got=vector.size, field=field)
    if not np.isfinite(vector).all():
        raise NotFinite(position=int(np.flatnonzero(~np.isfinite(vector))[0]), field=field)
    square = float(np.square(vector, dtype=np.float64).sum())
    if square > LONGEST_SQUARE:
        raise InvalidInput(
            f"the vector's squared length of {square:.3g} leaves no room for float32; scale it down", field=field
        )
    if metric is Metric.COSINE and square < SHORTEST_SQUARE:
        raise ZeroVector(field=field)
    return vector


def checked_metadata(metadata: dict[str, Any], max_bytes: int, field: str, max_depth: int = DEEPEST_METADATA) -> str:
    """Metadata in its canonical form.

    Raises:
        LimitExceeded: too long, or nested too deep; InvalidInput: holding what JSON or a database cannot hold.
    """
    if _is_deeper(metadata, max_depth):
        raise LimitExceeded(
            f"the metadata is nested more than {max_depth} levels deep",
            field=field,
            limit=max_depth,
            setting="max_metadata_depth",
        )
    try:
        content = canonical(metadata)
        length = len(content.encode())
    except ValueError:
        raise InvalidInput("the metadata holds NaN, an infinity or broken characters", field=field) from None
    if length > max_bytes:
        raise LimitExceeded(
            f"the metadata is {length} bytes of JSON; {max_bytes} is the most",
            field=field,
            limit=max_bytes,
            setting="max_metadata_bytes",
        )
    return content


def _is_deeper(value: Any, most: int) -> bool:
    """Whether there are more levels of objects and lists, without recursion: that would be what a deep value breaks."""
    level = [value]
    for _ in range(most + 1):
        nested = [part for part in level if isinstance(part, dict | list)]
        if not nested:
            return False
        level = [child for part in nested for child in (part.values() if isinstance(part, dict) else part)]
    return True


def canonical(metadata: dict[str, Any]) -> str:
    """Metadata as JSON with sorted keys, so that equal metadata is equal text; raises ValueError for NaN."""
    return json.dumps(metadata, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` merged into it: null removes a key, objects merge, anything else replaces (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
