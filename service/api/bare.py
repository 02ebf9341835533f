"""An application without routes: its errors, its reference page, what every answer passes last. Knows no service."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service.api import problems, reference
from service.api.ending import Ending
from service.api.framing import Framing
from service.api.headers import SecurityHeaders
from service.api.hosts import TrustedHosts
from service.api.signals import Signals
from service.settings import Settings, listed

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def bare_app(title: str, description: str, lifespan: Lifespan) -> FastAPI:
    """The ASGI application that routes are added to."""
    app = FastAPIOffline(
        docs_url=None,
        redoc_url=None,
        title=title,
        version=version("codewell"),
        description=description,
        lifespan=lifespan,
        redirect_slashes=False,
        responses=problems.responses(),
    )
    problems.install(app)
    reference.install(app)
    return app


def enclose(app: FastAPI, settings: Settings) -> None:
    """Adds what a request meets first: after it nothing is added."""
    if hosts := listed(settings.trusted_hosts):
        app.add_middleware(TrustedHosts, hosts=hosts)
    app.add_middleware(Framing)
    app.add_middleware(Ending)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Signals)
