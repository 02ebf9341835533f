"""What every text encoder offers. Knows no model, no HTTP and no SQL."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import OtherEncoder
from service.span import Span


class Encoded(NamedTuple):
    """What an encoder made of n texts."""

    vectors: NDArray[np.float32]
    """(n, dimension), finite, none of them zero."""
    warnings: list[str | None]
    """One a text: None, or what the encoder left out of it ("read the first 256 of 612 tokens")."""


class TextEncoder(Protocol):
    """Turns texts into vectors of one dimension. The same text always gives the same vector."""

    name: str
    """The word a collection stores: what encoded its items must encode its queries."""

    @property
    def identity(self) -> str:
        """What the vectors depend on, such as the model's name: a collection is searched with what it was made with."""
        ...

    @property
    def dimension(self) -> int:
        """Length of every vector; may load the model the first time."""
        ...

    @property
    def window(self) -> int | None:
        """Tokens of a text that are read, those that follow being left out; none where all are. May load the model."""
        ...

    def spans(self, text: str) -> list[Span]:
        """Where the text's tokens are, in order.

        Raises:
            InvalidInput: this encoder does not tell; EncoderMissing, EncoderFailed.
        """
        ...

    def encode(self, texts: Sequence[str]) -> Encoded:
        """One vector a text, in order.

        Raises:
            EncoderMissing: the package with the model is not installed.
            EncoderFailed: the model or endpoint did not answer as it should.
        """
        ...


class AbsentEncoder:
    """Stands where a collection's encoder is not the server's: it refuses every text and says what to do."""

    def __init__(self, name: str, identity: str, dimension: int, present: TextEncoder | None) -> None:
        self.name = name
        self.identity = identity
        self.dimension = dimension
        self.window = None
        has = "has none of that kind" if present is None else f"has {present.identity!r}"
        self._detail = (
            f"the collection's texts were encoded by {name} {identity!r} and this server {has}: set it to the "
            "collection's, search by vector, or ingest into a new collection"
        )

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Raises OtherEncoder."""
        del texts
        raise OtherEncoder(self._detail, field="text")

    def spans(self, text: str) -> list[Span]:
        """Raises OtherEncoder."""
        del text
        raise OtherEncoder(self._detail, field="text")
