"""A trained autoencoder as a codec: the one place where numpy meets torch. Knows no index and no training loop."""

import copy
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.autoencoder import Autoencoder
from models.codec import Codec
from models.device import device_named
from models.errors import DamagedCodec
from models.metric import Codes, Metric, Vectors
from models.saving import Tensors, saved
from models.space import Space


class LearnedCodec(Codec):
    """Encodes in float64, so that a code does not change with the batch that its vector came in; decodes in float32.

    Weights are kept in float16: rounding them costs no recall that can be measured and halves what a codec takes.
    """

    def __init__(self, model: Autoencoder, metric: Metric) -> None:
        self.kind = model.kind  # type: ignore[misc]
        self.dim = model.dim
        self.metric = metric
        self.code_bytes = model.code_bytes
        weights = {
            name: tensor.detach().cpu().to(stored_type(model, name, tensor), copy=True)
            for name, tensor in model.state_dict().items()
        }
        self._decoder = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self._decoder.load_state_dict(weights)
        self._encoder = copy.deepcopy(self._decoder).double()
        self._encoder.forget_decoder()
        self._elsewhere: Autoencoder | None = None
        """The encoder once more, on the device that codes were made on last, where that is not the processor."""

    @property
    def config(self) -> Any:
        """The frozen dataclass that the autoencoder was made of."""
        return self._encoder.config

    @cached_property
    def space(self) -> Space:
        """As the architecture says."""
        return self._decoder.space()

    def bucket_axes(self, latents: Vectors) -> Vectors:
        """The latents along the axes in which they vary most. (n, m) to (n, r), r at most 16."""
        return np.asarray((latents - _floats(self._encoder.centre)) @ _floats(self._encoder.axes), np.float32)

    def latents(self, vectors: Vectors) -> Vectors:
        """encode(x), not yet stored. (n, D) to (n, m)."""
        with torch.inference_mode():
            return _floats(self._encoder.encode(_doubles(self.checked(vectors))))

    def points(self, queries: Vectors) -> Vectors:
        """(q, D) queries to the (q, m) points that are compared with stored latents."""
        with torch.inference_mode():
            return _floats(self._encoder.points(_doubles(self.checked(queries)), self.metric))

    def stored_latents(self, codes: Codes) -> Vectors:
        """(n, code_bytes) codes to (n, m) float32."""
        with torch.inference_mode():
            return self._decoder.unpack(torch.from_numpy(codes)).numpy()

    def to_bytes(self) -> bytes:
        """Safetensors; the JSON in its metadata carries kind, configuration and the weights' checksum."""
        about = {"kind": self.kind, "dim": self.dim, "metric": self.metric, "config": asdict(self.config)}
        weights = self._decoder.state_dict()
        stored = {name: tensor.to(stored_type(self._decoder, name, tensor)) for name, tensor in weights.items()}
        return saved(about, {name: tensor.numpy() for name, tensor in stored.items()})

    @property
    def ram_bytes(self) -> int:
        """Bytes of the networks held, in float32 for decoding and in float64 for encoding."""
        held = [*self._decoder.state_dict().values(), *self._encoder.state_dict().values()]
        return sum(tensor.nbytes for tensor in held)

    @classmethod
    def restored(cls, model: Autoencoder, metric: Metric, tensors: Tensors) -> "LearnedCodec":
        """The codec whose weights these are; its codes are bit for bit the same.

        Raises:
            DamagedCodec: the weights are not those of such a model.
        """
        try:
            model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise DamagedCodec(f"the weights do not fit their configuration: {error}") from error
        return cls(model, metric)

    def _encode(self, vectors: Vectors) -> Codes:
        device = device_named(self.device)
        with torch.inference_mode():
            encoder = self._encoder_on(device)
            return encoder.pack(encoder.encode(_doubles(vectors).to(device))).cpu().numpy()

    def _encoder_on(self, device: torch.device) -> Autoencoder:
        """The encoder itself stays on the processor, where queries are projected meanwhile."""
        if device.type == "cpu":
            return self._encoder
        if self._elsewhere is None or self._elsewhere.mean.device.type != device.type:
            self._elsewhere = copy.deepcopy(self._encoder).to(device)
        return self._elsewhere

    def _decode(self, codes: Codes) -> Vectors:
        with torch.inference_mode():
            return self._decoder.decode(self._decoder.unpack(torch.from_numpy(codes))).numpy()


def stored_type(model: Autoencoder, name: str, tensor: Tensor) -> torch.dtype:
    """How a weight is kept."""
    return torch.float16 if tensor.ndim >= 2 and name not in model.exact else torch.float32


def _doubles(vectors: Vectors) -> Tensor:
    return torch.from_numpy(vectors.astype(np.float64))


def _floats(tensor: Tensor) -> Vectors:
    return tensor.numpy().astype(np.float32)
