"""Which codes can be cut: the first bytes of some are codes themselves. Knows no training and no index."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.codec import Codec
from models.configs import ResidualConfig
from models.error_byte import nearest_levels
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
    """The codec of the codec's codes cut to `size` bytes, fitted to (n, code_bytes) of them and to the (n, D) latents
    of the vectors that they stand for.

    Refitted together, early codebooks count on the later ones: without these they are solved for again. The codec
    looks for codes of its own size: of more than nine vectors in ten they are as near as the first bytes of longer
    ones, or nearer.

    Raises:
        BadConfig: there are no fewer bytes, or a code's first bytes are no code.
    """
    import torch

    from models.least_squares import refitted
    from models.lengths import fit_errors, fit_lengths
    from models.scalar_code import HALF

    if not isinstance(codec, ResidualCodec):
        raise BadConfig("kind", f"the first bytes of a {codec.kind} code are no code; those of {PREFIXED} are")
    if not 1 <= size < codec.code_bytes:
        raise BadConfig("bytes", f"{size} is not between 1 and {codec.code_bytes - 1}")
    config = codec.config.cut(size)
    kept = codec.tensors | {"codebooks": codec.codebooks[: config.steps], "lengths": codec.lengths[:size]}
    model = KINDS[codec.kind].architecture(codec.dim, config)
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in kept.items()})
    first = torch.from_numpy(codes[:, : config.steps].copy())
    length = np.sqrt(codec.squares(codes).mean())
    with torch.no_grad():
        model.codebooks.copy_(refitted(model.codebooks, first, torch.from_numpy(latents)).clamp_(-HALF, HALF))
        fit_lengths(model, first, float(2 * codec.pull * length))
        if size > config.steps:
            fit_errors(model, torch.from_numpy(_errors(codec, codes, model.unpack(first).numpy())))
    return ResidualCodec.of(model, codec.metric)


def cut_codes(whole: Codec, codes: Codes, shorter: Codec) -> Codes:
    """(n, code_bytes) codes of a codec to those of one that was cut from it: their first bytes, and a new error byte
    where they are enough to have one.

    Raises:
        BadConfig: a codec is of a kind whose codes are not cut.
    """
    if not isinstance(whole, ResidualCodec) or not isinstance(shorter, ResidualCodec):
        raise BadConfig("kind", f"codes of the kinds {whole.kind} and {shorter.kind} are not cut; {PREFIXED} are")
    first = codes[:, : shorter.steps]
    if shorter.code_bytes == shorter.steps:
        return first.copy()
    return np.hstack((first, nearest_levels(_errors(whole, codes, shorter.stored_latents(first)), shorter.levels)))


def _errors(whole: ResidualCodec, codes: Codes, z: Vectors) -> NDArray[np.float32]:
    """(n, code_bytes) codes and the (n, D) sums of fewer codewords to the (n,) squared errors of these, nearly: the
    codewords that are cut off, and what the code left out before.
    """
    errors: NDArray[np.float32] = np.square(whole.stored_latents(codes) - z).sum(axis=1)
    return errors + whole.levels[codes[:, -1]]
