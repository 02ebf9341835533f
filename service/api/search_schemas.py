"""Questions and their answers as JSON. Knows the service's types, not how they come about."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.api.cursor import packed
from service.api.fields import ItemId, MetadataFilter, Name, Strict, Vector
from service.index.segment import IndexKind
from service.latents import Part
from service.query import Answer, Hit, Mode
from service.search import Stage

Text = Annotated[str, StringConstraints(min_length=1)]
MOST_PROBES = 1 << 18
"""Four tables of 65,536 buckets have no more."""
HitInclude = Literal["text", "metadata", "vector", "snippet"]
"""What a hit carries beside id and score."""


class ExampleIn(Strict):
    """What hits shall be like, or not: exactly one of text, vector and id."""

    text: Text | None = None
    vector: Vector | None = None
    id: ItemId | None = None


Weights = Annotated[dict[int, Annotated[float, Field(gt=0, le=100)]], Field(max_length=100)]
"""By latent."""
Examples = Annotated[list[ExampleIn], Field(max_length=100)]


class ReciprocalRankIn(Strict):
    """A hit's score is the sum of 1 / (k + its rank) over both lists."""

    kind: Literal["rrf"]
    k: int = Field(60, ge=0, le=10_000, description="The larger, the less the first places weigh")


class WeightsIn(Strict):
    """A hit's score is the mean of both, each from 0 to 1 within its list."""

    kind: Literal["weights"]
    text: float = Field(0.5, ge=0, le=1, description="What words weigh; vectors weigh the rest")


class QueryIn(ExampleIn):
    """One question: one of text, vector and id, or several in `positive`."""

    collection: Name = "default"
    id: ItemId | None = Field(None, description="More like this item, without itself")
    mode: Mode = Field(
        Mode.VECTOR,
        description="What ranks: vectors, the words of `text` by BM25, or both (`vector` or `id` beside it)",
    )
    fusion: ReciprocalRankIn | WeightsIn | None = Field(
        None, discriminator="kind", description="How the mode hybrid makes one order of two; without it, rrf"
    )
    positive: Examples = Field([], description="More like all of these: their mean is looked for")
    negative: Examples = Field([], description="Away from these: the query is p + (p - n), of the two means")
    k: int = Field(10, ge=1, description="Hits wanted")
    index: IndexKind = Field(IndexKind.FAISS, description="What finds the shortlist; exact reads every original vector")
    oversample: int | None = Field(
        None,
        ge=1,
        description="The shortlist has k * oversample items, whose original vectors are read; without it, what the "
        "codec was tuned to, or 10, and of a residual codec those that may be among the best",
    )
    scan: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of residual codes that FAISS looks at, in the lists nearest to the query: 1 is all of them; "
        "without it, what the codec was tuned to",
    )
    probes: int | None = Field(
        None,
        ge=1,
        le=MOST_PROBES,
        description="Of the index buckets: how many to look into, of all tables, however many codes they hold; without "
        "it, as many as hold a tenth of the codes",
    )
    stage: Stage | None = Field(
        None, description="Where to stop; without it, at the exact scores of original vectors where they are kept"
    )
    filter: MetadataFilter = None
    min_score: float | None = Field(None, allow_inf_nan=False, description="Hits below this score are left out")
    diversity: float = Field(
        0, ge=0, le=1, description="Chooses hits unlike each other by maximal marginal relevance; 0 is relevance alone"
    )
    group_by: str | None = Field(
        None, min_length=1, description="A path of metadata: the best hits of k different values, such as documents"
    )
    group_size: int = Field(1, ge=1, le=100, description="Most hits of one value of `group_by`")
    cursor: str | None = Field(None, description="That of the page before: the next k hits")
    boost: Weights = Field(
        {}, description="Latents of a sparse codec to look for more, by shares of the query's length"
    )
    suppress: Weights = Field({}, description="Latents to look for less")
    explain: bool = Field(False, description="Adds to each hit what the latents of its sparse code add to its score")
    include: tuple[HitInclude, ...] = Field(
        ("text", "metadata"),
        max_length=10,
        description="What a hit carries beside id and score; snippet: where the words are",
    )
    profile: bool = Field(False, description="Adds where the time went")
    timeout_ms: int | None = Field(
        None, ge=1, le=600_000, description="Answer after so long with what there is, as `partial`; or 503, if nothing"
    )
    min_seq: int = Field(0, ge=0, description="Answer from this change on, such as a receipt's `seq`, on any worker")
    wait_ms: int = Field(1_000, ge=0, le=60_000, description="How long to wait for `min_seq`; then 503")


class SearchRequest(QueryIn):
    """One question, or many in `queries`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "animals living in water", "k": 3},
                {"text": "animals living in water", "filter": {"legs": {"$gte": 4}}},
                {"text": "asleep holding hands", "mode": "hybrid", "include": ["snippet"]},
                {"positive": [{"id": "otter"}, {"text": "fish"}], "negative": [{"id": "violin"}]},
                {"text": "animals", "group_by": "home", "k": 3},
                {"collection": "vectors", "vector": [0.1, 0.2, 0.3], "include": ["metadata"]},
                {"text": "animals living in water", "index": "buckets", "probes": 1_000},
                {"text": "fish", "mode": "text"},
                {"text": "a freshwater fish", "mode": "hybrid", "fusion": {"kind": "weights", "text": 0.7}},
                {"id": "trout", "k": 3},
                {"text": "a freshwater fish", "min_score": 0.2},
                {"text": "a freshwater fish", "diversity": 0.5, "k": 3},
                {"text": "animals", "k": 2, "cursor": "AQAAAAAAAAA="},
                {"text": "a freshwater fish", "stage": "refine", "profile": True},
                {"text": "a freshwater fish", "k": 1, "stage": "refine", "explain": True},
                {"text": "a freshwater fish", "boost": {"5": 0.2}, "suppress": {"7": 0.1}},
                {"queries": [{"text": "fish"}, {"text": "music"}]},
            ]
        }
    )

    queries: list[QueryIn] | None = Field(
        None, description="Many questions, answered together; each may name its collection"
    )


class ExplanationOut(BaseModel):
    """The codec's own score of a hit, as it is at the stage refine: the sum of all shares and the rest."""

    score: float
    parts: list[Part]
    rest: float


class ChunkOut(BaseModel):
    """A part of a text: its characters (Unicode code points) from `start` to before `end`."""

    start: int
    end: int
    text: str


class HitOut(BaseModel):
    """A found item; higher scores are better: under l2 minus the squared distance, which codes tell nearly; BM25 of
    words; in hybrid the fused.
    """

    id: str
    score: float
    text: str | None = None
    metadata: dict[str, Any] | None = None
    vector: list[float] | None = None
    snippet: str | None = Field(None, description="Escaped HTML, the words in <b>")
    chunk: ChunkOut | None = Field(None, description="The part of its text that it was found by, where texts are cut")
    group: str | int | float | bool | None = Field(None, description="Its value at `group_by`")
    explanation: ExplanationOut | None = None

    @classmethod
    def of(cls, hit: Hit, include: Sequence[HitInclude]) -> "HitOut":
        """A hit with what was asked for."""
        return cls(
            id=hit.item.item_id,
            score=hit.score,
            text=hit.item.text if "text" in include else None,
            metadata=json.loads(hit.item.metadata) if "metadata" in include else None,
            vector=hit.vector.tolist() if "vector" in include and hit.vector is not None else None,
            snippet=hit.snippet,
            chunk=hit.chunk and ChunkOut(start=hit.chunk.start, end=hit.chunk.end, text=hit.passage or ""),
            group=hit.group,
            explanation=hit.explanation and ExplanationOut(**vars(hit.explanation)),
        )


class ProfileOut(BaseModel):
    """Of all queries that were answered together."""

    codec: str = Field(description="The kind of the codec whose codes were searched; flat before a first training")
    milliseconds: dict[str, float] = Field(description="By stage; `originals` is a part of `rescore`")
    counts: dict[str, int] = Field(description="`bytes` are those of the codes compared and of the originals read")


class BucketsOut(BaseModel):
    """How far the index buckets looked for a question, the last time that it did."""

    tables: int = Field(description="Hash tables that each code stands in")
    probes: int = Field(description="Buckets looked into, of all tables; 0 where every code was scored anyway")
    candidates: int = Field(description="Codes scored, each once")
    radius: int | None = Field(
        description="Every code of which any table's address differs from the query's in so many bits or fewer was "
        "scored; none where not even all with the same were, or where addresses are no bits (sparse, residual)"
    )


class AnswerOut(BaseModel):
    """The hits of one question, best first."""

    hits: list[HitOut]
    generation: int | None = Field(description="The codec that found them; none before the first training")
    partial: bool = Field(description="Fewer hits than there could be, or found in less time than was needed")
    partial_reason: str | None = None
    cursor: str | None = Field(None, description="Asks for the next page; none on the last")
    warning: str | None = Field(None, description="What the encoder left out of a text that is longer than it reads")
    buckets: BucketsOut | None = Field(None, description="Of the index buckets: how far it looked")
    profile: ProfileOut | None = None

    @classmethod
    def of(cls, answer: Answer, asked: QueryIn) -> "AnswerOut":
        """The answer to one query."""
        told = answer.profile if asked.profile else None
        return cls(
            hits=[HitOut.of(hit, asked.include) for hit in answer.hits],
            generation=answer.generation,
            partial=answer.partial_reason is not None,
            partial_reason=answer.partial_reason,
            cursor=packed(answer.seen) if answer.seen else None,
            warning=answer.warning,
            buckets=answer.probed and BucketsOut(**answer.probed._asdict()),
            profile=told
            and ProfileOut(
                codec=told.codec,
                milliseconds={stage: round(took, 3) for stage, took in told.milliseconds.items()},
                counts=told.counts,
            ),
        )


class SearchResponse(AnswerOut):
    """The answer to one question."""

    took_ms: float


class BatchResponse(BaseModel):
    """The answers to many, in their order."""

    results: list[AnswerOut]
    took_ms: float
