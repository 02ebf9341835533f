"""The application: routes, errors, limits, and the service's life around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.api import (
    collections,
    encoding,
    generations,
    health,
    ingest,
    ingest_stream,
    items,
    jobs,
    keys,
    metrics,
    queries,
    search,
    search_stream,
)
from service.api.access import Authentication, check_routes, describe
from service.api.bare import bare_app, enclose
from service.api.bodies import Bodies
from service.api.rates import Rates
from service.api.signals import HEADER
from service.api.turns import Turns, set_threads
from service.bootstrap import Codewell
from service.settings import Settings, listed

DESCRIPTION = "Retrieval over codes of a few bytes, which trained autoencoders make of text and vectors."


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application; nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        set_threads(settings)
        with Codewell(settings) as codewell:
            app.state.codewell = codewell
            yield

    app = bare_app("Codewell", DESCRIPTION, lifespan)
    for routes in (
        ingest_stream,
        ingest,
        search_stream,
        search,
        collections,
        generations,
        queries,
        items,
        encoding,
        jobs,
        keys,
        health,
        metrics,
    ):
        app.include_router(routes.router)
    check_routes(app)
    describe(app)
    # The last one added is the first one that a request meets.
    app.add_middleware(Turns, settings=settings)
    app.add_middleware(Bodies, settings=settings)
    app.add_middleware(Rates)
    app.add_middleware(Authentication)
    if origins := listed(settings.cors_origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", HEADER],
            expose_headers=["Retry-After", HEADER],
        )
    enclose(app, settings)
    return app
