"""How a long text is cut into chunks that its encoder reads whole. Knows no model and no SQL."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from service.errors import InvalidInput
from service.span import Span
from service.text.encoder import TextEncoder

MOST_CHUNKS = 50_000
"""Of one request's texts together, where no setting says otherwise."""


class Chunking(BaseModel):
    """Chunks of so many tokens, of which each next one begins with some that the one before ends with."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"tokens": 200, "overlap": 40}]}
    )

    tokens: int = Field(200, ge=1, le=100_000, description="Most tokens of a chunk, as the text encoder counts them")
    overlap: int = Field(40, ge=0, description="Most tokens that a chunk and the next one have in common")

    def check(self, encoder: TextEncoder | None) -> None:
        """Raises InvalidInput, naming the field, where chunks cannot be made so for the encoder."""
        if encoder is None:
            raise InvalidInput(
                "only texts are cut into chunks: name an 'encoder', or leave it out and send a vector a chunk",
                field="chunking",
            )
        if self.overlap >= self.tokens:
            raise InvalidInput(
                f"chunks of {self.tokens} tokens overlap by {self.tokens - 1} at most, not {self.overlap}",
                field="chunking.overlap",
            )
        encoder.spans("")
        if encoder.window is not None and self.tokens > encoder.window:
            raise InvalidInput(
                f"the encoder {encoder.name!r} reads {encoder.window} tokens, and would leave out the rest of a chunk "
                f"of {self.tokens}",
                field="chunking.tokens",
            )

    def chunks(self, text: str, tokens: Sequence[Span]) -> list[Span]:
        """Where the chunks of a text are, in order, at least one; every token is in one of them.

        `tokens` are its tokens in order. A chunk ends and begins between words, as long as that leaves it half of its
        tokens; within a word that is longer, between its tokens.
        """
        if not tokens:
            return [Span(0, len(text))]
        words = [0] + [
            place
            for place in range(1, len(tokens))
            if tokens[place].start > tokens[place - 1].end or text[tokens[place].start].isspace()
        ]
        found, first, last = list[Span](), 0, 0
        while True:
            least = max(first + self.tokens // 2, last)  # beyond the chunk before, or this one would lie within it
            last = min(first + self.tokens, len(tokens))
            if last < len(tokens) and (word := words[bisect_right(words, last) - 1]) > least:
                last = word
            found.append(Span(tokens[first].start, tokens[last - 1].end))
            if last == len(tokens):
                return found
            shared = max(last - self.overlap, first + 1)
            place = bisect_left(words, shared)
            first = words[place] if place < len(words) and words[place] <= last else shared
