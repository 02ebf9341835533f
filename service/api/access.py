"""Who may call what. Every request but a question for health shows its key before anything of it is read, and every
route says which scope it needs. Knows no table.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute, APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service import rights
from service.api.problems import problem
from service.api.reference import is_reference
from service.api.signals import LIVE, READY
from service.bootstrap import Codewell
from service.errors import CodewellError, NotFound, Unauthorized
from service.keys import demanded
from service.rights import EVERYTHING, NOTHING, Rights

RIGHTS = "codewell.rights"
"""Where the connection holds what its caller may do."""
PLAIN = "X-API-Key"
SCHEMES = {
    "HTTPBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`cw_…`, as `codewell key create` and POST /keys give it",
    },
    "APIKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": PLAIN,
        "description": "The same in a header of its own",
    },
}
"""How a key is sent, as the description of the API has it: dependencies would say so too, and read every request."""
BASIC = 'Basic realm="Codewell: any name, an API key as the password"'
"""A browser that opens /docs can ask for a password and for nothing else."""


class Needs:
    """A dependency: what a route needs."""

    def __init__(self, scope: rights.Scope) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> None:
        """Raises Forbidden; NotFound: its path or query holds what no database stores or, in PostgreSQL, looks for."""
        if "\0" in request.scope["path"] or (
            b"%00" in request.scope["query_string"] and any("\0" in value for value in request.query_params.values())
        ):
            raise NotFound("nothing has a name or id with a NUL character")
        rights_of(request).require(self._scope)


async def open_to_all() -> None:
    """What routes need that need no key."""


READ = Depends(Needs(rights.Scope.READ))
WRITE = Depends(Needs(rights.Scope.WRITE))
ADMIN = Depends(Needs(rights.Scope.ADMIN))
OPEN = Depends(open_to_all)


def check_routes(app: FastAPI) -> None:
    """Every route says what it needs; a server with one that does not must not start.

    Raises:
        TypeError: names the route.
    """
    for route in routes_of(app.router):
        needs = [one.dependency for one in route.dependencies] if isinstance(route, APIRoute) else []
        path = getattr(route, "path", "")
        is_open = open_to_all in needs and path in (LIVE, READY)
        if not (is_open or is_reference(path) or any(isinstance(need, Needs) for need in needs)):
            raise TypeError(
                f"{path or route} does not say what it needs: dependencies=[READ], WRITE or ADMIN; OPEN is for "
                f"{LIVE} and {READY}"
            )


def describe(app: FastAPI) -> None:
    """Adds to the API's description how a key is sent, and where none is needed."""
    described = app.openapi

    def with_keys() -> dict[str, Any]:
        found = described()
        found["components"]["securitySchemes"] = SCHEMES
        for path, operations in found["paths"].items():
            for operation in operations.values():
                if path not in (LIVE, READY):
                    operation["security"] = [{scheme: []} for scheme in SCHEMES]
        return found

    app.openapi = with_keys  # type: ignore[method-assign]  # FastAPI's own way


def routes_of(router: APIRouter) -> Iterator[BaseRoute]:
    """With those of routers that it includes, which newer versions of FastAPI leave where they are."""
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from routes_of(included)


def rights_of(request: Request) -> Rights:
    """What the caller may do."""
    found: Rights = request.scope.get(RIGHTS, NOTHING)
    return found


def admitted(connection: Scope) -> Rights:
    """What the key that came with a request allows, as the database has it now.

    Raises:
        Unauthorized; Unavailable: the database cannot be asked.
    """
    codewell: Codewell = connection["app"].state.codewell
    settings, keys = codewell.settings, codewell.keys
    if settings.auth == "off" or not (demanded(settings) or keys.exist()):
        return EVERYTHING
    token = _shown(connection)
    if token is None:
        raise Unauthorized(
            "this server needs an API key: send `Authorization: Bearer cw_…` or `X-API-Key: cw_…`; the commands of "
            "codewell take it from CODEWELL_API_KEY"
        )
    return keys.check(token)


class Authentication:
    """ASGI middleware: answers 401 without a valid key where keys are needed, whatever the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on with its caller's rights, or answers."""
        if scope["type"] == "http" and scope["path"] != LIVE:  # which answers when the database does not
            try:
                scope[RIGHTS] = await run_in_threadpool(admitted, scope)
            except CodewellError as error:
                unknown = isinstance(error, Unauthorized)
                if not (unknown and scope["path"] == READY):
                    answer = problem(error)
                    if unknown and is_reference(scope["path"]):
                        answer.headers["WWW-Authenticate"] = BASIC
                    await answer(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _shown(connection: Scope) -> str | None:
    """The key of a request, as it came."""
    headers = Headers(scope=connection)
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return given.strip(" ")
    if kind.lower() == "basic" and is_reference(connection["path"]):
        # Only there: a browser repeats a password by itself, also for a page of somebody else's.
        return _password(given.strip())
    return headers.get(PLAIN)


def _password(given: str) -> str:
    """Of HTTP's Basic scheme; empty where it is none."""
    if re.fullmatch(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", given) is None:
        return ""
    return base64.b64decode(given).decode("latin-1").partition(":")[2]
