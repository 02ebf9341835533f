"""Text to vectors by an OpenAI-compatible embeddings endpoint. Knows no model; checks what it gets."""

from collections.abc import Sequence
from time import sleep

import httpx
import numpy as np
from numpy.typing import NDArray

from service.errors import EncoderFailed, InvalidInput
from service.span import Span
from service.text.encoder import Encoded

RETRIES = 3
BACKOFF = 0.25
"""Seconds before the first retry; each further one waits twice as long."""
LONGEST_WAIT = 5.0
"""Seconds: a Retry-After beyond it is not waited out."""
EXCERPT = 200
"""Characters of a bad answer that an error shows."""


class OpenAIEncoder:
    """POST {url}/embeddings, `batch` texts a request; vectors as the endpoint gives them.

    `url` is like http://host/v1. Texts are sent whole; no answer says what the endpoint cut, so there are no warnings.
    """

    name = "openai"
    window = None

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None,
        dimension: int | None = None,
        timeout: float = 30.0,
        batch: int = 256,
    ) -> None:
        """`timeout` in seconds, of one attempt. `api_key` None sends no Authorization. Connects to nothing yet."""
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("the API key holds characters that an HTTP header cannot carry")
        self.model = model
        self.batch = batch
        self._key = api_key
        self._dimension = dimension
        self._url = f"{url.rstrip('/')}/embeddings"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(timeout=timeout, headers=headers)

    def __repr__(self) -> str:
        return f"OpenAIEncoder({httpx.URL(self._url)!r}, {self.model!r})"

    @property
    def dimension(self) -> int:
        """Length of every vector; asks the endpoint once if the settings do not say.

        Raises:
            EncoderFailed: the endpoint did not answer as it should.
        """
        return self._dimension or self._embed(["dimension"]).shape[1]

    @property
    def identity(self) -> str:
        """The name of the model."""
        return self.model

    def spans(self, text: str) -> list[Span]:
        """Raises InvalidInput: only the endpoint knows its tokens."""
        del text
        raise InvalidInput(
            f"only the endpoint knows the tokens of {self.model!r}: cut texts before they are sent, or take the "
            "encoder sentence-transformers or tfidf",
            field="chunking",
        )

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Turns n texts into (n, dimension) vectors, in order.

        Raises:
            EncoderFailed: a refusal, a malformed answer, or 429, 5xx or no answer four times in a row.
        """
        batches = [self._embed(texts[start : start + self.batch]) for start in range(0, len(texts), self.batch)]
        vectors = np.concatenate(batches) if batches else np.empty((0, self.dimension), dtype=np.float32)
        return Encoded(vectors, [None] * len(texts))

    def close(self) -> None:
        """Closes the connections it keeps open."""
        self._client.close()

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        response = self._post({"model": self.model, "input": list(texts), "encoding_format": "float"})
        try:
            rows = sorted(response.json()["data"], key=lambda row: row["index"])
            with np.errstate(over="ignore"):
                vectors = np.array([row["embedding"] for row in rows], dtype=np.float64).astype(np.float32)
            in_order = [row["index"] for row in rows] == list(range(len(texts)))
        except (ValueError, KeyError, TypeError, OverflowError):
            raise self._failed("which holds no list of embeddings", response) from None
        if not in_order or vectors.ndim != 2:
            raise self._failed(f"which does not hold one embedding for each of {len(texts)} texts", response)
        if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
            raise self._failed("with a vector that is zero or not finite", response)
        self._dimension = self._dimension or vectors.shape[1]
        if vectors.shape[1] != self._dimension:
            raise self._failed(f"with {vectors.shape[1]} numbers a vector instead of {self._dimension}", response)
        return vectors

    def _post(self, body: dict[str, object]) -> httpx.Response:
        """The answer of status 200. Never raises anything of httpx: its errors carry the request, and that the key."""
        for attempt in range(RETRIES + 1):
            wait = BACKOFF * 2**attempt
            try:
                response = self._client.post(self._url, json=body)
            except httpx.RequestError as error:
                failure = EncoderFailed(self._redact(f"the embeddings endpoint did not answer: {error!r}"))
            else:
                if response.status_code == 200:
                    return response
                failure = self._failed("", response)
                if response.status_code != 429 and response.status_code < 500:
                    raise failure
                retry_after = response.headers.get("Retry-After", "")
                wait = float(retry_after) if retry_after.isdecimal() else wait
            if attempt < RETRIES:
                sleep(min(wait, LONGEST_WAIT))
        raise failure

    def _failed(self, what: str, response: httpx.Response) -> EncoderFailed:
        answer = self._redact(response.text)[:EXCERPT]
        return EncoderFailed(f"the embeddings endpoint answered {response.status_code} {what}".rstrip() + f": {answer}")

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text
