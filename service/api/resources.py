"""Collections, generations, aliases and jobs as JSON. Knows the service's types, not how they come about."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models import Metric
from service.api.encoding_schemas import TextsOrVectors
from service.api.fields import Name, Strict
from service.catalog import Description
from service.codec_spec import AutoSpec, CodecSpec, DenseSpec, TrainingSpec, codec_spec
from service.contract import ContractSpec
from service.drift import Drift, Freshness
from service.errors import InvalidInput
from service.generations import Generation
from service.index.segment import IndexKind
from service.job import Job, JobState
from service.originals import Originals
from service.retrain import RetrainSpec
from service.search import Stage
from service.swap import GenerationState
from service.text.chunking import Chunking

LOGS = "Keeps the vectors of some queries, ten a minute of each process, to measure codecs by"


class CollectionIn(Strict):
    """A collection to make; dimension and encoder say what it takes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "papers", "encoder": "tfidf", "chunking": {"tokens": 200, "overlap": 40}},
                {"name": "glosses", "dimension": 384, "contract": {"recall@10": 0.9, "max_bytes": 32}},
                {"name": "news", "dimension": 384, "retrain": {"when": "stale", "at_most_every_hours": 24}},
            ]
        }
    )

    name: Name
    dimension: int | None = Field(None, ge=1, description="Length of its vectors; an encoder knows its own")
    metric: Metric = Metric.COSINE
    codec: CodecSpec | None = Field(
        None, description="Without one: auto where the contract asks for a recall, else the default of dense"
    )
    contract: ContractSpec | None = Field(None, description="What every training must keep, or it publishes nothing")
    retrain: RetrainSpec | None = Field(None, description="Trains again when new items drift; never without one")
    log_queries: bool = Field(False, description=LOGS)
    originals: Originals = Field(Originals.FLOAT32, description="How vectors are kept; drop leaves codes alone")
    encoder: str | None = Field(None, description="sentence-transformers, openai or tfidf; none for vectors only")
    chunking: Chunking | None = Field(
        None, description="Cuts texts into chunks that the encoder reads whole; without it, a text has one vector"
    )

    @property
    def chosen_codec(self) -> CodecSpec:
        """The one that is named, or what goes without saying."""
        plans = self.contract is not None and self.contract.recalls
        return self.codec or (AutoSpec(kind="auto") if plans else DenseSpec())


class QueryDriftOut(BaseModel):
    """The newest queries, held against the items that the codec was certified on."""

    model_config = ConfigDict(from_attributes=True)

    status: Freshness
    vectors: int = Field(serialization_alias="queries", description="That were looked at, 200 at most")
    shifts: dict[str, float] = Field(description="In standard deviations: of the score of the nearest known code")


class SpreadOut(BaseModel):
    """How evenly the codes use what they could: figures by the codec's kind."""

    model_config = ConfigDict(from_attributes=True)

    certified: dict[str, float] = Field(description="When the codec was published")
    now: dict[str, float] = Field(description="Of the live codes; nothing before somebody searches")


class DriftOut(BaseModel):
    """The newest items, held against those that the codec was certified on."""

    model_config = ConfigDict(from_attributes=True)

    status: Freshness
    items: int = Field(description="New ones that were looked at; below 50 nothing is said")
    shifts: dict[str, float] = Field(
        description="In standard deviations: of the reconstruction error, and of the score of the nearest known code"
    )
    queries: QueryDriftOut | None = Field(
        description="Of the newest queries that the answering process was asked; null before there were 50"
    )
    codes: SpreadOut


class CollectionOut(BaseModel):
    """A collection as it is."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    dimension: int
    metric: Metric
    encoder: str | None
    originals: Originals
    codec: CodecSpec
    contract: dict[str, Any] | None
    retrain: RetrainSpec | None
    log_queries: bool
    chunking: Chunking | None
    items: int
    chunks: int | None = Field(description="Vectors of its items' chunks; null where texts are not cut")
    seq: int
    generation: int | None
    certificate: dict[str, Any] | None
    aliases: list[str]
    created_at: float
    drift: DriftOut | None = Field(
        None, description="Of one collection, with a codec and originals; null in lists and answers to a creation"
    )

    @classmethod
    def of(cls, description: Description, drift: Drift | None = None) -> "CollectionOut":
        """What the catalog says of it."""
        told = None if drift is None else DriftOut.model_validate(drift)
        return cls.model_validate(description).model_copy(update={"drift": told})


class CollectionList(BaseModel):
    """Every collection by name."""

    collections: list[CollectionOut]


class CodecCut(Strict):
    """What of the codec is to change."""

    bytes: int = Field(ge=1, description="Of each code that are kept: the first ones, which are a code themselves")


class CollectionPatch(Strict):
    """What of a collection is to change: one thing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"codec": {"bytes": 16}},
                {"retrain": {"when": "drifting", "at_most_every_hours": 12}},
                {"log_queries": True},
            ]
        }
    )

    codec: CodecCut | None = None
    retrain: RetrainSpec | None = Field(None, description="Null: it trains when somebody asks, and never else")
    log_queries: bool | None = Field(None, description=LOGS)

    @property
    def cut(self) -> CodecCut | None:
        """The cut that is asked for; none where something else is to change.

        Raises:
            InvalidInput: nothing or more than one thing is to change.
        """
        changed = [name for name in type(self).model_fields if name in self.model_fields_set] or ["codec"]
        if len(changed) > 1 or (changed != ["retrain"] and getattr(self, changed[0]) is None):
            raise InvalidInput("one of codec, retrain and log_queries is required, and no other", field=changed[0])
        return self.codec


class QueriesIn(TextsOrVectors):
    """Queries like those of your users: texts or vectors."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["what lives in water?", "who plays music?"]}]})


class QueriesOut(BaseModel):
    """How many queries codecs are measured by: from 100 on, different ones."""

    model_config = ConfigDict(from_attributes=True)

    given: int
    logged: int = Field(description="Of those that the collection was asked, where `log_queries` says so")


class AliasIn(Strict):
    """What an alias stands for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"collection": "default"}]})

    collection: Name


class AliasList(BaseModel):
    """Every alias and its collection."""

    aliases: dict[str, str]


class TrainRequest(Strict):
    """What to train, and what it must keep; without a codec or a contract, the collection's own."""

    codec: CodecSpec | None = None
    contract: ContractSpec | None = Field(None, description="A codec that does not keep it is not published")
    training: TrainingSpec = TrainingSpec()

    def checked(self, own: Description) -> "TrainRequest":
        """Itself, where such a codec can be made for the collection's vectors and be as short as its contract asks.

        Raises:
            BadConfig, InvalidInput: naming the field.
        """
        codec = self.codec or codec_spec(own.codec)
        if isinstance(codec, AutoSpec):
            return self
        config = codec.config(own.dimension, Metric(own.metric))
        contract = self.contract or (own.contract and ContractSpec.model_validate(own.contract))
        if contract:
            contract.check(config, own.dimension)
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
    reason: dict[str, Any] | None = Field(description="Drift that it began for by itself; null where it was asked for")
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


class GenerationOut(BaseModel):
    """A trained codec and what was measured of it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    state: GenerationState
    oversample: int = Field(description="Of searches that name none")
    fingerprint: str
    certificate: dict[str, Any] = Field(description="Empty where it was not measured")
    created_at: float
    published_at: float | None = Field(description="The last time")

    @classmethod
    def of(cls, generation: Generation) -> "GenerationOut":
        """What is known of it."""
        return cls.model_validate(generation)


class GenerationList(BaseModel):
    """Every generation, newest first."""

    generations: list[GenerationOut]


class CertificateOut(BaseModel):
    """What was measured of the published generation."""

    collection: str
    generation: int
    published_at: float
    certificate: dict[str, Any]

    @classmethod
    def of(cls, generation: Generation) -> "CertificateOut":
        """The published one's."""
        return cls(
            collection=generation.collection,
            generation=generation.id,
            published_at=generation.published_at or generation.created_at,
            certificate=dict(generation.certificate),
        )


class LostOut(BaseModel):
    """Shares of recall@10; with it, they add up to 1."""

    codec: float = Field(description="Neighbours that the codec's own score of every code leaves out")
    shortlist: float = Field(description="Neighbours that it would find, and the index does not")
    filter: float = Field(description="What more is lost within the filter than without")


class KnobOut(BaseModel):
    """A default search with one knob turned."""

    knob: Literal["default", "oversample", "margin", "probes", "scan", "index", "stage"]
    index: IndexKind
    oversample: int
    scan: float
    margin: float | None = Field(description="Within which originals are read; null: all of the shortlist's are")
    probes: int | None = Field(description="Hash buckets looked into; null: as many as hold a tenth of the codes")
    stage: Stage
    recall: float = Field(alias="recall@10")
    ms: float = Field(description="Of the median search")
    gives_back: float
    costs_ms: float


class RecallOut(BaseModel):
    """Where recall is lost."""

    collection: str
    generation: int
    index: IndexKind
    oversample: int
    scan: float
    margin: float | None
    stage: Stage
    queries: int
    items: int = Field(description="That were searched")
    items_chosen: int = Field(description="Of these, within the filter")
    items_left_out: int = Field(description="That there was no time for: the newest")
    recall: dict[str, float] = Field(alias="recall@10", description="Of a default search, with its interval")
    lost: LostOut
    knobs: list[KnobOut]
    sentence: str
    seconds: float


class RollbackRequest(Strict):
    """Where to go back to."""

    generation: int | None = Field(
        None, ge=1, le=2**63 - 1, description="One that is kept; without it, the one published last before"
    )
