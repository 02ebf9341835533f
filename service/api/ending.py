"""What is answered where a server that ends waits no longer. Knows no route."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem
from service.errors import CutOff


class Ending:
    """ASGI middleware: answers a request that is cancelled before its answer began.

    Only a server that ends cancels requests, when their time of grace is over. What a thread does for one is not
    stopped by that, so that nobody can say whether it was done.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on."""
        begun = scope["type"] != "http"

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if begun:
                raise
            refusal = problem(CutOff("the server ended before this was; it may have been done or not"))
            refusal.headers["Connection"] = "close"
            await refusal(scope, receive, send)
