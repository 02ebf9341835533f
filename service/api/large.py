"""JSON bodies within their limits; large ones, which take a while to be understood, in a thread, so that other requests
are answered meanwhile.

Knows no route by name.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.api.limits import check_size

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
                return await answer(Sized(request))
            return await run_sync(asyncio.run, answer(Pausing(request)))

        return apart


class Sized(Request):
    """The same request, whose JSON is looked at before it is validated. A dependency of every route could do so, and
    would cost each request several times as much.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request.scope)
        self._body = request._body

    async def json(self) -> Any:
        """Raises LimitExceeded, InvalidInput: as `check_size` does."""
        given = self._read()
        if isinstance(given, dict):
            check_size(given, self.app.state.codewell.settings)
        return given

    def _read(self) -> Any:
        return json.loads(self._body)


class Pausing(Sized):
    """One whose JSON is read with pauses in which other threads may work."""

    def _read(self) -> Any:
        """Python's parser holds the interpreter for as long as it calls nothing that is written in Python."""
        return json.loads(self._body, object_hook=_same)


def _same(given: dict[str, Any]) -> dict[str, Any]:
    return given
