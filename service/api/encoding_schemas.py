"""Texts, vectors and codes as JSON. Knows no collection."""

import base64
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

import models
from service.api.fields import Name, Strict, Vector
from service.api.search_schemas import Text
from service.reader import Decoded

Format = Literal["base64", "bits", "pgvector"]


def _from_base64(given: object) -> bytes:
    if not isinstance(given, str):
        raise ValueError("a code is base64 of its bytes")
    return base64.b64decode(given, validate=True)


Code = Annotated[bytes, BeforeValidator(_from_base64), WithJsonSchema({"type": "string", "contentEncoding": "base64"})]


class TextsOrVectors(Strict):
    """One of both."""

    texts: list[Text] | None = None
    vectors: list[Vector] | None = None


class EncodeRequest(TextsOrVectors):
    """Texts or vectors."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["a river mammal"], "format": "bits"}]})

    format: Format = Field(
        "base64",
        description=(
            "`bits`: 0 and 1, the first bit of a byte first, as pgvector's `bit`; `pgvector`: what a table that "
            "`codewell export --to pgvector` made is asked with"
        ),
    )


class Codes(BaseModel):
    """One code for each text or vector, in order."""

    generation: int = Field(description="The codec that made them: codes of two generations do not compare")
    code_bytes: int
    codes: list[str]

    @classmethod
    def of(cls, generation: int, codes: models.Codes, form: Format) -> "Codes":
        """The codes of one generation, in base64 or bits."""
        if form == "bits":
            bits = np.unpackbits(codes, axis=1, bitorder="little")
            written = ["".join(map(str, row)) for row in bits.tolist()]
        else:
            written = [base64.b64encode(code.tobytes()).decode() for code in codes]
        return cls(generation=generation, code_bytes=codes.shape[1], codes=written)


class DecodeRequest(Strict):
    """Codes of the generation that searches use, as `encode` gives them in base64."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"codes": ["AAAAAAAAAAAAAAAAAAAAAAA="]}]})

    codes: list[Code]


class VectorsOut(BaseModel):
    """One vector for each code, in order."""

    generation: int
    vectors: list[list[float]]
    errors: list[float] | None = Field(
        None,
        description="What searches add to squared distances; null but of residual codes of eight bytes or more by l2",
    )

    @classmethod
    def of(cls, decoded: Decoded) -> "VectorsOut":
        """What a collection answered."""
        errors = None if decoded.errors is None else decoded.errors.tolist()
        return cls(generation=decoded.generation, vectors=decoded.vectors.tolist(), errors=errors)


class EmbeddingsRequest(BaseModel):
    """OpenAI's form; what else it carries is ignored, as clients send it unasked."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "default", "input": "a river mammal"}]})

    model: Name = Field(description="A collection that takes text")
    input: Text | list[Text]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="None but the collection's own")

    @property
    def texts(self) -> list[str]:
        """One or many."""
        return [self.input] if isinstance(self.input, str) else self.input


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens are not counted here."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingsResponse(BaseModel):
    """OpenAI's form."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage = Usage()

    @classmethod
    def of(cls, asked: EmbeddingsRequest, vectors: models.Vectors) -> "EmbeddingsResponse":
        """The vectors of a request's texts."""
        packed = asked.encoding_format == "base64"
        data = [
            Embedding(
                index=index,
                embedding=base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist(),
            )
            for index, vector in enumerate(vectors)
        ]
        return cls(data=data, model=asked.model)
