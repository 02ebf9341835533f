"""The application: routes, errors, limits, and the service's life around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from service.api import collections, encoding, health, ingest, ingest_stream, items, jobs, problems, search
from service.api.body_limit import BodyLimit
from service.api.dependencies import without_nul
from service.bootstrap import Codewell
from service.settings import Settings

DESCRIPTION = "Retrieval over codes of a few bytes, which trained autoencoders make of text and vectors."


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application; nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with Codewell(settings) as codewell:
            app.state.codewell = codewell
            yield

    # The usual /docs page fetches its script from a CDN, which a server without the internet cannot offer.
    app = FastAPIOffline(
        redoc_url=None,
        title="Codewell",
        version=version("codewell"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        responses=problems.responses(),
        dependencies=[Depends(without_nul)],
    )
    problems.install(app)
    for routes in (ingest_stream, ingest, search, collections, items, encoding, jobs, health):
        app.include_router(routes.router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    return app
