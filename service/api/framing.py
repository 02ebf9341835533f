"""A request says in one way where its body ends. Knows no route."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem
from service.errors import AmbiguousLength


class Framing:
    """ASGI middleware: answers 400 and closes the connection where a body has a length and chunks as well: a proxy may
    have read the one and h11 the other, and what is left between them would be a request that the proxy never saw.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or answers."""
        names = {name for name, _ in scope.get("headers") or []}
        if {b"content-length", b"transfer-encoding"} <= names:
            refusal = problem(AmbiguousLength("send Content-Length or Transfer-Encoding, not both"))
            refusal.headers["Connection"] = "close"
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
