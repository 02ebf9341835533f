"""The application over a built folder: one collection, searched and never changed. Knows no database and no key."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, Field

from models import Metric
from service.api import intake
from service.api.bare import bare_app, enclose
from service.api.bodies import Bodies
from service.api.health import Alive
from service.api.large import LargeRoute
from service.api.search_schemas import BucketsOut, QueryIn, SearchRequest
from service.api.signals import LIVE, READY
from service.api.turns import Turns, set_threads
from service.bootstrap import traces
from service.builds.generation import Generation
from service.builds.manifest import Manifest
from service.cluster.placement import Placement
from service.deadline import Deadline
from service.errors import CollectionNotFound, InvalidInput
from service.metrics import Metrics
from service.read_only import Found, ReadOnlyCollection
from service.served import Built, Served
from service.settings import Settings

TAKEN = frozenset(
    (
        *("collection", "vector", "k", "index", "oversample", "scan", "probes"),
        *("stage", "min_score", "timeout_ms", "queries"),
    )
)
"""Fields of a question that codes and ids can answer."""

GRACE_SECONDS = 2.0
"""More than any search takes, before a build that was replaced is closed."""

router = APIRouter(route_class=LargeRoute)


class Serving(NamedTuple):
    """What requests are answered with."""

    settings: Settings
    served: Served
    metrics: Metrics
    traces: Any


class ReadOnlyOut(BaseModel):
    """The one collection."""

    name: str
    generation: str = Field(description="The build; it changes where the folder is built anew")
    items: int
    dimension: int
    metric: Metric
    certificate: dict[str, Any]

    @classmethod
    def of(cls, build: Built) -> "ReadOnlyOut":
        """What is told of it."""
        manifest = build.manifest
        return cls(
            name=build.name,
            generation=manifest.generation,
            items=manifest.items,
            dimension=manifest.dimension,
            metric=Metric(manifest.metric),
            certificate=dict(build.certificate),
        )


class ReadOnlyHit(BaseModel):
    """A found item; higher scores are better."""

    id: str
    score: float


class ReadOnlyAnswer(BaseModel):
    """The hits of one question, best first."""

    hits: list[ReadOnlyHit]
    generation: str = Field(description="The build that found them, as `/collections` has it")
    partial: bool = Field(description="Fewer hits than there could be, or found in less time than was needed")
    partial_reason: str | None
    buckets: BucketsOut | None = Field(description="Of the index buckets: how far it looked")

    @classmethod
    def of(cls, found: Found, generation: str) -> "ReadOnlyAnswer":
        """The answer to one question."""
        return cls(
            hits=[ReadOnlyHit(id=one, score=score) for one, score in found.hits],
            generation=generation,
            partial=found.partial_reason is not None,
            partial_reason=found.partial_reason,
            buckets=found.probed and BucketsOut(**found.probed._asdict()),
        )


class ReadOnlyResponse(ReadOnlyAnswer):
    """The answer to one question."""

    took_ms: float


class ReadOnlyBatch(BaseModel):
    """The answers to many, in their order."""

    results: list[ReadOnlyAnswer]
    took_ms: float


class Listed(BaseModel):
    """All there is."""

    collections: list[ReadOnlyOut]


def create_read_only_app(settings: Settings, folder: Path, placement: Placement | None = None) -> FastAPI:
    """The ASGI application; the folder, checked by whoever starts it, is opened when its lifespan begins: here, or on
    the cluster of `placement`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        set_threads(settings)
        computing = BoundedSemaphore(settings.concurrent_searches or settings.cores_each)
        name = folder.resolve().name

        def opened(manifest: Manifest) -> Built:
            if placement is None:
                return ReadOnlyCollection(name, Generation.open(folder, checked=True), computing)
            from service.cluster.sharded import ShardedCollection

            return ShardedCollection(name, folder, manifest, placement)

        served = Served(folder, opened, settings.search_ms / 1000 + GRACE_SECONDS)
        served.start()
        app.state.codewell = Serving(settings, served, Metrics(), traces(settings))
        yield
        served.stop()

    app = bare_app("Codewell, read-only", "One built folder, searched by its codes.", lifespan)
    app.include_router(router)
    app.add_middleware(Turns, settings=settings)
    app.add_middleware(Bodies, settings=settings)
    enclose(app, settings)
    return app


@router.post("/search")
def search(body: SearchRequest, request: Request) -> ReadOnlyResponse | ReadOnlyBatch:
    """The nearest items to a vector, or to each of `queries`, by their codes; ids and scores alone."""
    began = time.perf_counter()
    answers = _answered(body, request.app.state.codewell)
    took = round(1000 * (time.perf_counter() - began), 3)
    return (
        ReadOnlyBatch(results=answers, took_ms=took)
        if body.queries
        else ReadOnlyResponse(**dict(answers[0]), took_ms=took)
    )


@router.get("/collections")
def collections(request: Request) -> Listed:
    """The one that is served, with its certificate."""
    serving: Serving = request.app.state.codewell
    return Listed(collections=[ReadOnlyOut.of(serving.served.build)])


@router.get(LIVE)
async def livez() -> Alive:  # not `def`: it must answer when every thread is busy searching
    """200 while the process answers at all."""
    return Alive()


@router.get(READY)
async def readyz() -> Alive:
    """200 once the folder is open: nothing answers before."""
    return Alive()


def _answered(body: SearchRequest, serving: Serving) -> list[ReadOnlyAnswer]:
    asked, build = intake.queries(body, serving.settings), serving.served.build
    for name, query, given in asked:
        _check_taken(given, query.field)
        if name not in (build.name, "default"):
            raise CollectionNotFound(name, field=f"{query.field}collection")
    budget = max(given.timeout_ms or serving.settings.search_ms for _, _, given in asked)
    found = build.search([query for _, query, _ in asked], Deadline(budget / 1000))
    return [ReadOnlyAnswer.of(one, build.manifest.generation) for one in found]


def _check_taken(given: QueryIn, field: str) -> None:
    """Raises InvalidInput where a question has what only a server with a database answers."""
    if refused := sorted(given.model_fields_set - TAKEN):
        raise InvalidInput(
            "a server over a built folder has codes and ids alone; `codewell attach` makes a collection of it",
            field=f"{field}{refused[0]}",
        )
