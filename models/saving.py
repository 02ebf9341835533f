"""Learned tensors as bytes: safetensors with JSON metadata and a checksum. Knows no architecture."""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.errors import DamagedCodec

FORMAT = 1
"""Of the saved bytes; another one is refused."""
Tensors = dict[str, NDArray[Any]]


def saved(about: Mapping[str, Any], tensors: Tensors) -> bytes:
    """The bytes of a codec; `about` is JSON and must name its `kind`."""
    about = {**about, "format": FORMAT}
    about["checksum"] = _checksum(about, tensors)
    return save(tensors, metadata={"codewell": json.dumps(about, sort_keys=True)})


def loaded(data: bytes) -> tuple[dict[str, Any], Tensors]:
    """What `saved` was given.

    Raises:
        DamagedCodec: cut short, altered, or of another format.
    """
    try:
        (header_length,) = struct.unpack("<Q", data[:8])
        about: dict[str, Any] = json.loads(json.loads(data[8 : 8 + header_length])["__metadata__"]["codewell"])
        if about["format"] != FORMAT:
            raise DamagedCodec(f"the codec is of format {about['format']}, this program reads format {FORMAT}")
        tensors = load(data)
        checksum = about.pop("checksum")
        if _checksum(about, tensors) != checksum:
            raise DamagedCodec("the codec does not match its checksum")
    except (ValueError, KeyError, TypeError, struct.error, SafetensorError) as error:
        if isinstance(error, DamagedCodec):
            raise
        raise DamagedCodec(f"these bytes are not a whole codec: {error}") from error
    return about, tensors


def _checksum(about: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
