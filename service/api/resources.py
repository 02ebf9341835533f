"""Collections, aliases and jobs as JSON. Knows the service's types, not how they come about."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models import Metric
from service.api.fields import Name, Strict
from service.catalog import Description
from service.codec_spec import CodecSpec, DenseSpec, TrainingSpec
from service.jobs import Job, JobState
from service.originals import Originals


class CollectionIn(Strict):
    """A collection to make; dimension and encoder say what it takes."""

    name: Name
    dimension: int | None = Field(None, ge=1, description="Length of its vectors; an encoder knows its own")
    metric: Metric = Metric.COSINE
    codec: CodecSpec = DenseSpec()
    originals: Originals = Field(Originals.FLOAT32, description="How vectors are kept; drop leaves codes alone")
    encoder: str | None = Field(None, description="sentence-transformers, openai or tfidf; none for vectors only")


class CollectionOut(BaseModel):
    """A collection as it is."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    dimension: int
    metric: Metric
    encoder: str | None
    originals: Originals
    codec: CodecSpec
    items: int
    seq: int
    generation: int | None
    certificate: dict[str, Any] | None
    aliases: list[str]
    created_at: float

    @classmethod
    def of(cls, description: Description) -> "CollectionOut":
        """What the catalog says of it."""
        return cls.model_validate(description)


class CollectionList(BaseModel):
    """Every collection by name."""

    collections: list[CollectionOut]


class AliasIn(Strict):
    """What an alias stands for."""

    collection: Name


class AliasList(BaseModel):
    """Every alias and its collection."""

    aliases: dict[str, str]


class TrainRequest(Strict):
    """What to train; without a codec, the collection's own."""

    codec: CodecSpec | None = None
    training: TrainingSpec = TrainingSpec()

    def checked(self, dim: int) -> "TrainRequest":
        """Itself, where a codec for (D,) vectors can be made of it; raises BadConfig naming the field."""
        if self.codec is not None:
            self.codec.config(dim)
        return self


class JobOut(BaseModel):
    """A job as it is."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    collection: str
    kind: str
    state: JobState
    progress: float = Field(description="0 to 1")
    message: str
    result: dict[str, Any] | None
    created_at: float
    started_at: float | None
    finished_at: float | None

    @classmethod
    def of(cls, job: Job) -> "JobOut":
        """What the queue says of it."""
        return cls.model_validate(job)


class JobList(BaseModel):
    """The newest jobs first."""

    jobs: list[JobOut]
