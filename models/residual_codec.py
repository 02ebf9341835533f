"""A residual autoencoder as a codec: its leading bytes are its buckets. Knows no index and no training.

Only encoding imports torch: a process that searches does without its start and its 200 MB.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.codec import BLOCK, WIDEST_BUCKET_KEY, Codec, cheapest
from models.configs import CODEWORDS, ResidualConfig, described
from models.error_byte import nearest_levels
from models.errors import DamagedCodec
from models.factory import QuantizerConfig
from models.metric import Codes, Metric, Scores, Vectors
from models.saving import Tensors, saved
from models.space import ProductSpace

if TYPE_CHECKING:
    import torch

    from models.additive import Tables
    from models.residual import ResidualAutoencoder

Doubles = NDArray[np.float64]


class ResidualCodec(Codec):
    """Codes of one byte a step, and an error byte where the configuration has one; see ResidualAutoencoder, whose
    equations these are.

    There is one table of buckets: a code's address is its first byte, or its first two where there are codes enough.
    Vectors are projected in float64, so that a code does not change with the batch that its vector came in.
    """

    def __init__(self, config: ResidualConfig | QuantizerConfig, dim: int, metric: Metric, tensors: Tensors) -> None:
        """Raises DamagedCodec where the tensors are not those of such a codec."""
        self.kind = "faiss" if isinstance(config, QuantizerConfig) else "residual"  # type: ignore[misc]
        self.config = config
        self.dim, self.metric = dim, metric
        self.steps, self.code_bytes = config.steps, config.code_bytes(dim)
        if self.code_bytes > self.steps and metric is not Metric.L2:
            raise DamagedCodec(f"codes for {metric} have no error byte")
        components = config.shape(dim).width if isinstance(config, QuantizerConfig) else min(config.components, dim)
        shapes = self._shapes(components)
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise DamagedCodec(f"the weights do not fit their configuration: {sorted(shapes)} of other shapes")
        self._saved = {name: tensor for name, tensor in tensors.items() if name != "codebooks"}
        self._saved_type = tensors["codebooks"].dtype
        self.codebooks = np.asarray(tensors["codebooks"], np.float32)
        """(M, 256, D)"""
        self.lengths = np.asarray(tensors["lengths"], np.float32)
        """(code_bytes, 256) what each codeword adds to |z|^2, about; and the levels of an error byte"""
        self.weights = np.asarray(tensors["weights"], np.float64)
        """(D,) what an error along each component counts while codes are chosen"""
        self._mean, self._scale = np.asarray(tensors["mean"], np.float64), float(tensors["scale"])
        self._principal = np.asarray(tensors["principal"], np.float64)
        self.pull = float(tensors["pull"])
        """What a score loses for each unit of |x_hat|^2, or of a squared error: see ResidualAutoencoder"""
        self._tables: Tables | None = None

    @classmethod
    def of(cls, model: "ResidualAutoencoder", metric: Metric) -> "ResidualCodec":
        """What was trained, rounded as it is stored."""
        from models.learned import stored_type

        state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        tensors = {
            name: tensor.to(stored_type(model, name, tensor), copy=True).numpy() for name, tensor in state.items()
        }
        return cls(model.config, model.dim, metric, tensors)

    @property
    def tensors(self) -> Tensors:
        """As they are saved: codebooks in float16, which is not kept beside the same numbers in float32."""
        return {**self._saved, "codebooks": self.codebooks.astype(self._saved_type, copy=False)}

    @property
    def space(self) -> ProductSpace:
        """A byte's point is its codeword, if any, and its share of |z|^2; a score adds up products with a query."""
        words = np.pad(self.codebooks, ((0, self.code_bytes - self.steps), (0, 0), (0, 0)))
        return ProductSpace(np.concatenate((words, self.lengths[:, :, None]), 2))

    @property
    def ram_bytes(self) -> int:
        """Bytes of codebooks, of the projection as it is and as it is saved, and of what is small beside them.

        From its first vector on, a process that encodes holds models/additive.py's tables too.
        """
        held = sum(tensor.nbytes for tensor in self._saved.values())
        return held + self.codebooks.nbytes + self._principal.nbytes

    def latents(self, vectors: Vectors) -> Vectors:
        """(n, dim) to their (n, D) principal components."""
        return np.asarray(self._components(self.checked(vectors)), np.float32)

    def points(self, queries: Vectors) -> Vectors:
        """(q, dim) queries to (q, D + 1): <p, (z, |z|^2)> orders codes as the metric does, up to a query's constant.

        ip:      <q, x_hat>, which asks for no length
        l2:      <h(q), z> - |z|^2 / 2
        cosine:  <q, x_hat> / |x_hat|, linear in |x_hat|^2 about its mean: <q, x_hat> - pull |x_hat|^2
        """
        x = np.asarray(self.checked(queries), np.float64)
        if self.metric is Metric.L2:
            against, length = self._components(x), -0.5
        elif self.metric is Metric.IP:
            against, length = x @ self._principal, 0.0
        else:
            against, length = (x - 2 * self.pull * self._mean) @ self._principal, -self.pull * self._scale
        points = np.full((len(x), against.shape[1] + 1), length, np.float32)
        points[:, :-1] = against
        return points

    def errors(self, codes: Codes) -> NDArray[np.float32] | None:
        """(n, code_bytes) codes to a share of the (n,) squared errors that their last bytes tell, if they do."""
        if self.code_bytes == self.steps:
            return None
        return np.asarray(self._scale**2 * self.lengths[-1][codes[:, -1]], np.float32)

    def stored_latents(self, codes: Codes) -> Vectors:
        """(n, b) codes or the beginnings of them to the (n, D) sums of their codewords."""
        sums = np.zeros((len(codes), self.codebooks.shape[2]), np.float32)
        for book, column in zip(self.codebooks, codes.T, strict=False):
            sums += book[column]
        return sums

    @property
    def levels(self) -> NDArray[np.float32]:
        """(256,) squared errors that an error byte stands for, in units of the scale."""
        return np.asarray(self.lengths[-1] / self.pull, np.float32)

    def scores(self, queries: Vectors, codes: Codes, squares: NDArray[np.float32] | None = None) -> Scores:
        """The decoded vectors' scores, which need no decoding: (q, dim) and (q, c, code_bytes) to (q, c).

        Under cosine x_hat is put back on the sphere, and an error byte is taken away beside |q - x_hat|^2; nothing of
        dim numbers is formed for a candidate. With the codes' (q, c) `squares` not even the sum of its codewords is:
        their products with the query are looked up.
        """
        q, c, width = codes.shape
        x = self._centred(queries)
        projected = np.asarray(x @ self._principal, np.float32)
        if squares is None:
            z = self.stored_latents(codes.reshape(q * c, width))
            products = (z.reshape(q, c, -1) @ projected[:, :, None])[:, :, 0]
            squares = self._squares(z, codes.reshape(q * c, width)).reshape(q, c)
        else:
            products = np.stack([self._looked_up(*pair) for pair in zip(projected, codes, strict=True)])
        return self._scored(x, products, squares)

    def completed(
        self, queries: Vectors, products: NDArray[np.float32], shares: NDArray[np.float32], squares: NDArray[np.float32]
    ) -> Scores:
        """`scores` from (q, c) products of `points` with candidates and the sums of their `shares`."""
        found = products + shares
        return self._scored(self._centred(queries), self._scale * found if self.metric is Metric.L2 else found, squares)

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """(M, 256) what each codeword adds to <p, (z, |z|^2)> of a point p for <P^T x, z>, and under l2 for <h, z>."""
        if self.metric is Metric.L2:
            return np.asarray(self.lengths / 2, np.float32)
        if self.metric is Metric.IP:
            return np.zeros_like(self.lengths)
        mean = np.asarray(self._mean @ self._principal, np.float32)
        return np.asarray(2 * self.pull * (self.codebooks @ mean) + self.pull * self._scale * self.lengths, np.float32)

    def _centred(self, queries: Vectors) -> Doubles:
        x = np.asarray(self.checked(queries), np.float64)
        return x - self._mean if self.metric is Metric.L2 else x

    def _scored(self, x: Doubles, products: NDArray[np.float32], squares: NDArray[np.float32]) -> Scores:
        """Of <P^T x, z>, x being less the mean under l2."""
        products = np.asarray(self._scale * products, np.float32)
        if self.metric is Metric.L2:
            return np.asarray((2 * products - squares - np.square(x).sum(axis=1)[:, None]).clip(max=0), np.float32)
        moved = products + (x @ self._mean)[:, None]
        if self.metric is Metric.IP:
            return np.asarray(moved, np.float32)
        return np.asarray((moved / np.sqrt(squares)).clip(-1, 1), np.float32)

    def squares(self, codes: Codes) -> NDArray[np.float32]:
        """(n, code_bytes) codes to the (n,) squared lengths that `scores` divides by or takes away, with what an error
        byte adds to them.
        """
        blocks = (codes[start : start + BLOCK] for start in range(0, len(codes), BLOCK))
        parts = [self._squares(self.stored_latents(block), block) for block in blocks]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def _looked_up(self, projected: NDArray[np.float32], codes: Codes) -> NDArray[np.float32]:
        """The products of (D,) numbers with the (c,) sums of codewords."""
        products = self.codebooks.reshape(-1, self.codebooks.shape[2]) @ projected
        places = codes[:, : self.steps] + CODEWORDS * np.arange(self.steps)
        return np.asarray(products[places].sum(axis=1), np.float32)

    def bucket_keys(self, codes: Codes, bits: int = WIDEST_BUCKET_KEY) -> NDArray[np.uint16]:
        """(n, M) codes to (n, 1): the first byte, or the first two."""
        first = codes[:, :1].astype(np.uint16)
        return first if self.bucket_count(bits) == CODEWORDS else first * CODEWORDS + codes[:, 1:2]

    def bucket_count(self, bits: int) -> int:
        """256, or 65,536 where the codes are as many."""
        return CODEWORDS if bits < WIDEST_BUCKET_KEY or self.steps == 1 else CODEWORDS**2

    def bucket_costs(self, latents: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
        """(D,) components of a query to (1, buckets): squared distances of the buckets' sums of codewords, up to what
        is the same for all; under ip minus their inner products.
        """
        first = self.codebooks[:2]
        if self.metric is Metric.IP:
            costs = -first @ np.asarray(latents * self._scale + self._mean @ self._principal, np.float32)
        else:
            costs = np.square(first).sum(axis=2) - 2 * first @ latents
        if self.bucket_count(bits) == CODEWORDS:
            return np.asarray(costs[:1], np.float32)
        pairs = costs[0][:, None] + costs[1]
        return np.asarray((pairs if self.metric is Metric.IP else pairs + 2 * self._crossed).reshape(1, -1), np.float32)

    def nearest_buckets(self, latents: NDArray[np.float32], bits: int, most: int) -> NDArray[np.int64]:
        """(m,) latents of a query to the cheapest buckets of all tables, at most so many, cheapest first."""
        return cheapest(self.bucket_costs(latents, bits).ravel(), most)

    def query_key(self, latents: NDArray[np.float32], bits: int) -> None:
        """None: keys are codewords, which have no Hamming distances."""
        del latents, bits

    def to_bytes(self) -> bytes:
        """Safetensors; the JSON in its metadata carries kind, configuration and the weights' checksum."""
        about = {"kind": self.kind, "dim": self.dim, "metric": self.metric, "config": described(self.config)}
        return saved(about, self.tensors)

    def _encode(self, vectors: Vectors) -> Codes:
        import torch

        from models.additive import MAPPED, searched
        from models.blocks import mapped
        from models.device import device_named

        device, beam = device_named(self.device), self.config.beam
        components = self._components(vectors)
        with torch.inference_mode():
            targets = (components * self.weights).astype(np.float32)
            z, tables = torch.from_numpy(targets).to(device), self._searched(device)
            parts = mapped(lambda block: searched(z[block], tables, beam), len(z), MAPPED, self.threads, device=device)
            codes = np.asarray(torch.cat(parts).cpu().numpy(), np.uint8)
        if self.code_bytes == self.steps:
            return codes
        # Beside what codewords leave out there is what the principal axes do.
        outside = np.square((vectors - self._mean) / self._scale).sum(axis=1) - np.square(components).sum(axis=1)
        errors = outside.clip(min=0) + np.square(components - self.stored_latents(codes)).sum(axis=1)
        return np.hstack((codes, nearest_levels(errors, self.levels)))

    def _decode(self, codes: Codes) -> Vectors:
        restored = self._scale * (self.stored_latents(codes) @ self._principal.T.astype(np.float32)) + self._mean
        return np.asarray(restored, np.float32)

    def _components(self, x: NDArray[np.floating]) -> Doubles:
        """P^T (x - mean) / scale."""
        return np.asarray(((x - self._mean) / self._scale) @ self._principal, np.float64)

    def _squares(self, z: Vectors, codes: Codes) -> NDArray[np.float32]:
        """(n, D) sums of the codewords of (n, code_bytes) codes to (n,): |x_hat - mean|^2 under l2, and what an error
        byte says; else |x_hat|^2.

        Where that one's terms cancel it is no less than a millionth of a component's variance.
        """
        own = self._scale**2 * np.einsum("nd,nd->n", z, z)
        if self.metric is Metric.L2:
            errors = self.errors(codes)
            return np.asarray(own if errors is None else own + errors, np.float32)
        mean = np.asarray(self._scale * (self._mean @ self._principal), np.float32)
        terms = self._mean @ self._mean + 2 * (z @ mean) + own
        return np.asarray(np.maximum(terms, 1e-6 * self._scale**2), np.float32)

    def _searched(self, device: "torch.device") -> "Tables":
        import torch

        from models.additive import Tables

        if self._tables is None or self._tables.words.device.type != device.type:
            weighted = torch.from_numpy(self.codebooks * self.weights.astype(np.float32))
            self._tables = Tables.of(weighted).to(device)
        return self._tables

    @cached_property
    def _crossed(self) -> NDArray[np.float32]:
        return np.asarray(self.codebooks[0] @ self.codebooks[1].T, np.float32)

    def _shapes(self, components: int) -> dict[str, tuple[int, ...]]:
        return {
            "mean": (self.dim,),
            "scale": (),
            "centre": (components,),
            "axes": (components, min(components, 16)),
            "principal": (self.dim, components),
            "codebooks": (self.steps, CODEWORDS, components),
            "weights": (components,),
            "lengths": (self.code_bytes, CODEWORDS),
            "pull": (),
        }
