"""No body longer than the setting is taken in. Knows no route; a streamed ingest is bounded by its lines instead."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.ndjson import is_ndjson
from service.api.problems import problem
from service.errors import TooLarge


def is_stream(scope: Scope) -> bool:
    """Whether a request is a streamed ingest."""
    return scope.get("path") == "/ingest" and scope.get("method") == "POST" and is_ndjson(scope)


class BodyLimit:
    """ASGI middleware: answers 413 by Content-Length, or as soon as a body without one is too long."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or answers 413."""
        headers = dict(scope.get("headers") or [])
        if scope["type"] != "http" or is_stream(scope):
            await self._app(scope, receive, send)
            return
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._drain(receive, int(declared))
            await problem(self._refusal())(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(413) from self._refusal()
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> TooLarge:
        return TooLarge(
            f"the body is longer than {self._max_bytes} bytes; send several batches, or stream "
            "application/x-ndjson to /ingest",
            field="body",
        )

    async def _drain(self, receive: Receive, declared: int) -> None:
        """Throws a moderately long body away, so that its sender lives to read the answer."""
        more = declared <= 4 * self._max_bytes
        while more:
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
