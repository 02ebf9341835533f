"""An item on its way in: what a user sent, and whether it can be kept. Knows no SQL and no HTTP."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Metric
from service.errors import DimensionMismatch, InvalidInput, NotFinite, ZeroVector


@dataclass(frozen=True)
class NewItem:
    """What a user sent. `vector` is (D,) float32."""

    id: str
    text: str | None
    vector: NDArray[np.float32] | None
    metadata: dict[str, Any]

    def can_be_first(self) -> bool:
        """Whether a collection can be made for it."""
        return self.vector is None or bool(np.isfinite(self.vector).all() and self.vector.any())

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
        DimensionMismatch, NotFinite, ZeroVector: naming `field`.
    """
    if vector.shape != (dim,):
        raise DimensionMismatch(expected=dim, got=vector.size, field=field)
    if not np.isfinite(vector).all():
        raise NotFinite(position=int(np.flatnonzero(~np.isfinite(vector))[0]), field=field)
    # A vector so small that its square is nothing has no direction left in float32 either.
    if metric is Metric.COSINE and not float(np.linalg.norm(vector)) > 0:
        raise ZeroVector(field=field)
    return vector


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
