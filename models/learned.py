"""A trained autoencoder as a codec: the one place where numpy meets torch. Knows no index and no training loop."""

import copy
import hashlib
import json
import struct
from dataclasses import asdict
from functools import cached_property

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.codec import Codec, ScalarSpace
from models.dense import DenseAutoencoder, DenseConfig
from models.errors import CodecError, DamagedCodec
from models.metric import Codes, Metric, Vectors

FORMAT = 1
"""Of the saved bytes; another one is refused."""


class LearnedCodec(Codec):
    """Encodes in float64, so that a code does not change with the batch that its vector came in; decodes in float32.

    Weights are kept in float16: rounding them costs no recall that can be measured and halves what a codec takes.
    """

    def __init__(self, model: DenseAutoencoder, metric: Metric) -> None:
        self.kind = model.kind  # type: ignore[misc]
        self.dim = model.dim
        self.metric = metric
        self.code_bytes = model.code_bytes
        self._weights = {
            name: tensor.detach().cpu().to(torch.float16 if tensor.ndim == 2 else torch.float32, copy=True)
            for name, tensor in model.state_dict().items()
        }
        rounded = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        rounded.load_state_dict(self._weights)
        self._decoder = rounded
        self._encoder = copy.deepcopy(rounded).double()

    @property
    def config(self) -> DenseConfig:
        """What the autoencoder was made of."""
        return self._encoder.config

    @cached_property
    def space(self) -> ScalarSpace:
        """The latents' grids."""
        code = self._encoder.code
        return ScalarSpace(code.latent_type.bits, _floats(code.low), _floats(code.width))

    def bucket_axes(self, latents: Vectors) -> Vectors:
        """The latents along the axes in which they vary most. (n, m) to (n, r), r at most 16."""
        return np.asarray((latents - _floats(self._encoder.centre)) @ _floats(self._encoder.axes), np.float32)

    def latents(self, vectors: Vectors) -> Vectors:
        """encode(x), not yet stored. (n, D) to (n, m)."""
        with torch.inference_mode():
            return _floats(self._encoder.encode(_doubles(self.checked(vectors))))

    def points(self, queries: Vectors) -> Vectors:
        """encode(q); under ip the linear path back, D^T q, for <q, D z> = <D^T q, z>. (q, D) to (q, m)."""
        if self.metric is not Metric.IP:
            return self.latents(queries)
        with torch.inference_mode():
            return _floats(_doubles(self.checked(queries)) @ self._encoder.decoder.weight)

    def stored_latents(self, codes: Codes) -> Vectors:
        """(n, code_bytes) codes to (n, m) float32."""
        with torch.inference_mode():
            return self._decoder.unpack(torch.from_numpy(codes)).numpy()

    def to_bytes(self) -> bytes:
        """Safetensors; the JSON in its metadata carries kind, configuration and the weights' checksum."""
        about = {
            "format": FORMAT,
            "kind": self.kind,
            "dim": self.dim,
            "metric": self.metric,
            "config": asdict(self.config),
            "checksum": _checksum(self._weights),
        }
        return save(self._weights, metadata={"codewell": json.dumps(about, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "LearnedCodec":
        """The codec that `to_bytes` wrote; its codes are bit for bit the same.

        Raises:
            DamagedCodec: cut short, altered, or of another format.
        """
        try:
            (header_length,) = struct.unpack("<Q", data[:8])
            about = json.loads(json.loads(data[8 : 8 + header_length])["__metadata__"]["codewell"])
            if about["format"] != FORMAT:
                raise DamagedCodec(f"the codec is of format {about['format']}, this program reads format {FORMAT}")
            weights = load(data)
            if _checksum(weights) != about["checksum"]:
                raise DamagedCodec("the codec's weights do not match their checksum")
            model = DenseAutoencoder(about["dim"], DenseConfig.from_dict(about["config"]))
            model.load_state_dict(weights)
            return cls(model, Metric(about["metric"]))
        except CodecError:
            raise
        except (ValueError, KeyError, TypeError, RuntimeError, struct.error, SafetensorError) as error:
            raise DamagedCodec(f"these bytes are not a whole codec: {error}") from error

    def _encode(self, vectors: Vectors) -> Codes:
        with torch.inference_mode():
            return self._encoder.pack(self._encoder.encode(_doubles(vectors))).numpy()

    def _decode(self, codes: Codes) -> Vectors:
        with torch.inference_mode():
            return self._decoder.decode(self._decoder.unpack(torch.from_numpy(codes))).numpy()


def _doubles(vectors: Vectors) -> Tensor:
    return torch.from_numpy(vectors.astype(np.float64))


def _floats(tensor: Tensor) -> Vectors:
    return tensor.numpy().astype(np.float32)


def _checksum(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
