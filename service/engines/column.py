"""What codes are in an engine's column, and what that column is asked with. Knows no engine, no SQL and no HTTP."""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Metric, ScalarSpace, SparseSpace, Vectors, farther, normalized
from service.errors import InvalidInput

if TYPE_CHECKING:
    from models import SparseCodec

MOST_ACTIVE = 16_000
"""Numbers of a sparse vector that are not zero, in pgvector: a query has one for every latent."""
LEAST_LENGTH = np.float32(1e-15)
"""By which a decoded vector is divided, as models.decoded_scores has it."""


class Form(StrEnum):
    """What of the codes is copied."""

    CODES = "codes"
    """The numbers, bits or pairs that a code consists of."""
    VECTORS = "vectors"
    """The vectors that codes decode to."""


class Type(StrEnum):
    """What a value of a column is."""

    DENSE = "dense"
    """Numbers in float16."""
    BITS = "bits"
    SPARSE = "sparse"
    """Few of many numbers, in float32."""


class Distance(StrEnum):
    """By which a column orders its values as Codewell does."""

    L2 = "l2"
    IP = "ip"
    """The inner product, largest first."""
    HAMMING = "hamming"


class Pairs(NamedTuple):
    """Sparse vectors: (n, k) ascending indices and their (n, k) values, which are 0 where there is none."""

    indices: NDArray[np.int64]
    values: NDArray[np.float32]


Values = NDArray[np.float16] | Codes | Pairs
"""(n, width) numbers, (n, width / 8) bytes of bits, the first of a byte its lowest, or pairs."""


class Column(ABC):
    """Codes of one codec as values that an engine compares with a query's."""

    type: ClassVar[Type]

    def __init__(self, codec: Codec, width: int, distance: Distance) -> None:
        self.codec = codec
        self.width = width
        """Numbers or bits of a value."""
        self.distance = distance

    @abstractmethod
    def values(self, codes: Codes) -> Values:
        """(n, code_bytes) codes to what is stored of them.

        Raises:
            InvalidInput: a number is beyond float16.
        """

    @abstractmethod
    def queries(self, vectors: Vectors) -> Vectors | Codes:
        """(q, D) queries to the (q, width) numbers, or (q, width / 8) bytes, that values are compared with."""

    def literals(self, vectors: Vectors) -> list[str]:
        """(q, D) queries as pgvector writes them: `[…]`, 0 and 1, or `{index:value,…}/width` with indices from 1."""
        queries = self.queries(vectors)
        if self.type is Type.BITS:
            bits = np.unpackbits(queries.astype(np.uint8), axis=1, bitorder="little")
            return ["".join(map(str, row)) for row in bits.tolist()]
        rows = queries.astype(np.float32)
        if self.type is Type.DENSE:
            return [f"[{','.join(map(str, row))}]" for row in rows]
        return [
            f"{{{','.join(f'{index + 1}:{row[index]}' for index in np.flatnonzero(row).tolist())}}}/{self.width}"
            for row in rows
        ]


class Latents(Column):
    """The latents of a code; the distance is that of Codewell's shortlist."""

    type = Type.DENSE

    def __init__(self, codec: Codec, width: int) -> None:
        super().__init__(codec, width, Distance.IP if codec.metric is Metric.IP else Distance.L2)

    def values(self, codes: Codes) -> Values:
        """(n, m) float16."""
        return _halves(self.codec.stored_latents(codes))

    def queries(self, vectors: Vectors) -> Vectors:
        """(q, m)."""
        return self.codec.points(vectors)


class Bits(Column):
    """The bits of a binary code; the distance is the number of those that differ."""

    type = Type.BITS

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec, 8 * codec.code_bytes, Distance.HAMMING)

    def values(self, codes: Codes) -> Values:
        """The codes as they are."""
        return codes

    def queries(self, vectors: Vectors) -> Codes:
        """The codes of the queries."""
        return self.codec.encode(vectors)


class Sparse(Column):
    """The pairs of a sparse code and, after the m latents, one number more: inner products order as refine does.

        cosine   z / |x_hat|, 1 / |x_hat|    asked with  p, p_m
        ip       z, 1                                    p, p_m
        l2       z, |x_hat|^2                            2 p, -1

    where <q, x_hat> = sum_j z_j p_j + p_m: see SparseAutoencoder.points. Under cosine and ip the inner product is
    Codewell's own score.
    """

    type = Type.SPARSE

    def __init__(self, codec: Codec, latents: int) -> None:
        super().__init__(codec, latents + 1, Distance.IP)

    def values(self, codes: Codes) -> Values:
        """Of each code its pairs and the one more."""
        indices, values = cast("SparseCodec", self.codec).pairs(codes)
        last = np.ones((len(codes), 1), np.float32)
        if self.codec.metric is not Metric.IP:
            decoded = self.codec.decode(codes)
            squares = np.einsum("nd,nd->n", decoded, decoded)[:, None]
            if self.codec.metric is Metric.L2:
                last = squares
            else:
                last = 1 / np.maximum(np.sqrt(squares), LEAST_LENGTH)
                values = values * last
        ends = np.full((len(codes), 1), self.width - 1)
        return Pairs(np.hstack((indices, ends)), np.hstack((values, last)).astype(np.float32))

    def queries(self, vectors: Vectors) -> Vectors:
        """(q, m + 1)."""
        points = self.codec.points(vectors)
        if self.codec.metric is Metric.L2:
            points = np.hstack((2 * points[:, :-1], np.full((len(points), 1), -1, np.float32)))
        return points


class Decoded(Column):
    """The vectors that codes stand for, under cosine put back on the sphere; the distance is that of refine.

    Of codes with an error byte they have one number more, the root of what refine adds to the squared distance.
    """

    type = Type.DENSE

    def __init__(self, codec: Codec) -> None:
        more = codec.errors(np.zeros((1, codec.code_bytes), np.uint8)) is not None
        super().__init__(codec, codec.dim + more, Distance.L2 if codec.metric is Metric.L2 else Distance.IP)

    def values(self, codes: Codes) -> Values:
        """(n, width) float16."""
        decoded = self.codec.decode(codes)
        if self.codec.metric is Metric.COSINE:
            decoded = normalized(decoded)
        return _halves(farther(decoded, decoded[:0], self.codec.errors(codes))[0])

    def queries(self, vectors: Vectors) -> Vectors:
        """The queries themselves, under cosine at length 1; a number more is 0."""
        return np.pad(self.codec.checked(vectors), ((0, 0), (0, self.width - self.codec.dim)))


def column_of(codec: Codec, form: Form, field: str | None = None) -> Column:
    """The column that codes of this codec make.

    Raises:
        InvalidInput, naming `field`: no column compares such codes.
    """
    space = codec.space
    if form is Form.VECTORS:
        return Decoded(codec)
    instead = f"the form vectors takes what they decode to instead, in {2 * codec.dim:,} bytes each"
    if codec.kind == "binary":
        return Bits(codec)
    if isinstance(space, ScalarSpace):
        return Latents(codec, len(space.low))
    if isinstance(space, SparseSpace):
        if space.latents >= MOST_ACTIVE:
            detail = f"a query has {space.latents + 1:,} numbers, and pgvector's sparsevec takes {MOST_ACTIVE:,}"
            raise InvalidInput(f"{detail}; {instead}", field=field)
        return Sparse(codec, space.latents)
    detail = f"bytes of a code of the kind {codec.kind} pick codewords, and no column type compares those"
    raise InvalidInput(f"{detail}; {instead}", field=field)


def _halves(numbers: Vectors) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halves = numbers.astype(np.float16)
    if not np.isfinite(halves).all():
        raise InvalidInput("a number is beyond 65,504, the largest of float16, in which engines keep it; scale vectors")
    return halves
