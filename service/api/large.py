"""Large JSON bodies, which take a while to be understood: in a thread, so that other requests are answered meanwhile.

Knows no route by name.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Request, Response
from fastapi.routing import APIRoute

LARGE = 64 * 1024
"""Bytes of a body that are read within a few milliseconds."""


class LargeRoute(APIRoute):
    """Works on a request with a large body in an event loop of its own: parsing and validation are no routes' work, and
    would hold the one that all others are answered by.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As any route, apart where the body is large."""
        answer = super().get_route_handler()

        async def apart(request: Request) -> Response:
            if len(await request.body()) < LARGE:
                return await answer(request)
            return await run_sync(asyncio.run, answer(Pausing(request)))

        return apart


class Pausing(Request):
    """The same request, whose JSON is read with pauses in which other threads may work."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.scope)
        self._body = request._body

    async def json(self) -> Any:
        """Python's parser holds the interpreter for as long as it calls nothing that is written in Python."""
        self._json = json.loads(self._body, object_hook=_same)
        return self._json


def _same(given: dict[str, Any]) -> dict[str, Any]:
    return given
