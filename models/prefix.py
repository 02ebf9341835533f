"""Which codes can be cut: the first bytes of some are codes themselves. Knows no training and no index."""

from collections.abc import Mapping
from typing import Any

from models.codec import Codec
from models.configs import ResidualConfig
from models.errors import BadConfig
from models.factory import QuantizerConfig
from models.kinds import KINDS, additive
from models.metric import Codes, Vectors
from models.residual_codec import ResidualCodec

PREFIXED = "residual, and faiss with an RQ in its factory"
"""Kinds whose codes can be cut."""


def cut_config(kind: str, config: Mapping[str, Any], size: int) -> ResidualConfig | QuantizerConfig | None:
    """The configuration of the first `size` bytes of a code, given a codec's kind and its own configuration as JSON;
    none where they are no code.
    """
    whole = KINDS[kind].config.from_dict(dict(config))
    return whole.cut(size) if additive(whole) else None


def cut(codec: Codec, size: int, codes: Codes, latents: Vectors) -> ResidualCodec:
    """The codec of the first `size` bytes of the codec's codes, fitted to (n, code_bytes) of them and to the (n, D)
    latents of the vectors that they stand for.

    Raises:
        BadConfig: there are no fewer bytes, or a code's first bytes are no code.
    """
    if not isinstance(codec, ResidualCodec):
        raise BadConfig("kind", f"the first bytes of a {codec.kind} code are no code; those of {PREFIXED} are")
    if not 1 <= size < codec.code_bytes:
        raise BadConfig("bytes", f"{size} is not between 1 and {codec.code_bytes - 1}")
    return codec.cut(size, codes, latents)
