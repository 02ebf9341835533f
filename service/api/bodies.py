"""A body is taken in whole, within its limits and its time, before anything works on the request: who sends slowly
holds no turn and no thread. Knows no route; a streamed ingest is bounded by its lines and their time instead.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.limits import check_parts
from service.api.ndjson import is_ndjson
from service.api.problems import problem
from service.errors import Busy, CodewellError, Encoded, TooLarge, TooSlow
from service.settings import Settings

DRAINED = 4
"""A body of so many times the limit is read and thrown away, so that its sender lives to read the refusal."""


def is_stream(scope: Scope) -> bool:
    """Whether a request is a streamed ingest."""
    return scope.get("path") == "/ingest" and scope.get("method") == "POST" and is_ndjson(scope)


class Bodies:
    """ASGI middleware: answers 408, 413, 415 or 503 for a body that is too slow, too long, compressed or too much."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._held = 0
        """Bytes of all bodies that are here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on with its body, or answers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        try:
            try:
                _check_encoding(scope)
                if not is_stream(scope):
                    async with asyncio.timeout(self._settings.body_seconds):
                        await self._take(scope, body)
            except TimeoutError:
                await problem(self._too_slow())(scope, receive, send)
                return
            except CodewellError as error:
                await self._drain(body)
                await problem(error)(scope, receive, send)
                return
            if not body.gone:
                await self._app(scope, self._timed(receive) if is_stream(scope) else body.again(), send)
        finally:
            self._held -= body.held

    async def _take(self, scope: Scope, body: "_Body") -> None:
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._settings.max_body_bytes:
            raise self._too_large()
        while (size := await body.more()) is not None:
            if body.taken > self._settings.max_body_bytes:
                raise self._too_large()
            if self._held + size > self._settings.max_bodies_bytes:
                raise Busy(
                    f"the bodies of other requests take the {self._settings.max_bodies_bytes} bytes that there are for "
                    "them; CODEWELL_MAX_BODIES_BYTES raises it",
                    field="body",
                )
            self._held += size
            body.held += size
        if not is_ndjson(scope):
            check_parts(body.whole(), self._settings, "body")

    async def _drain(self, body: "_Body") -> None:
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while await body.more(keep=False) is not None and body.taken <= DRAINED * self._settings.max_body_bytes:
                    pass
        except TimeoutError:
            return

    def _timed(self, receive: Receive) -> Receive:
        async def timed() -> Message:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    return await receive()
            except TimeoutError:
                raise self._too_slow() from None

        return timed

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"the body is longer than {self._settings.max_body_bytes} bytes; send several batches, or stream "
            "application/x-ndjson to /ingest; CODEWELL_MAX_BODY_BYTES raises it",
            field="body",
        )

    def _too_slow(self) -> TooSlow:
        return TooSlow(
            f"the body did not come within {self._settings.body_seconds} seconds; CODEWELL_BODY_SECONDS raises it",
            field="body",
        )


class _Body:
    """What has come of one body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._chunks: list[bytes] = []
        self._whole = False
        self.taken = 0
        self.held = 0
        self.gone = False
        """Whether its sender is; nobody is there to read an answer."""

    async def more(self, *, keep: bool = True) -> int | None:
        """Bytes that came next; none at the end."""
        if self._whole or self.gone:
            return None
        message = await self._receive()
        if message["type"] != "http.request":
            self.gone = True
            return None
        chunk = message.get("body", b"")
        self._whole = not message.get("more_body", False)
        self.taken += len(chunk)
        if keep:
            self._chunks.append(chunk)
        return len(chunk)

    def whole(self) -> bytes:
        """All that came."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    def again(self) -> Receive:
        """Hands all of it on at once; then only the client's leaving is left to be told."""
        told = False

        async def receive() -> Message:
            nonlocal told
            if told:
                return await self._receive()
            told = True
            return {"type": "http.request", "body": self.whole(), "more_body": False}

        return receive


def _check_encoding(scope: Scope) -> None:
    encoding = Headers(scope=scope).get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise Encoded(
            "the server takes no compressed bodies: send it as it is, and without this header",
            field="Content-Encoding",
        )
