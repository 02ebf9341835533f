"""Every request's id, its line in the log and its place in the metrics. Knows no route and reads no body."""

import logging
import re
import secrets
import time
from contextlib import nullcontext
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.log import REQUEST_ID

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
GIVEN = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""An id that a caller may give: what no log or terminal takes for anything else."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
OTHER = "OTHER"
UNMATCHED = "unmatched"
"""The route of a request that came to none: its path is unknown, or it was refused before, as without a valid key."""
LIVE, READY = "/livez", "/readyz"
"""What answers without a key, and the only routes that may be OPEN."""
METRICS = "/metrics"
PROBES = (LIVE, READY, METRICS)
"""Asked every few seconds: where they succeed it is logged at the level debug."""
CLOSED = 499
"""The status, in log and metrics, of a request whose caller went away before it was answered."""


class Signals:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on; what becomes of it is told when its answer has ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        # Not taken back: a request is a task of its own, and what answers its unforeseen errors stands outside of this.
        REQUEST_ID.set(request_id)
        began = time.perf_counter()
        status = CLOSED

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        traces = scope["app"].state.codewell.traces
        told: dict[str, Any] = {}
        with nullcontext() if traces is None else traces.request(scope["headers"], request_id, told):
            try:
                await self._app(scope, receive, with_id)
            except Exception:
                status = 500
                raise
            finally:
                _tell(scope, status, time.perf_counter() - began, told)


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == HEADER.lower().encode()), b"")
    return given.decode() if GIVEN.fullmatch(given) else secrets.token_hex(16)


def _tell(scope: Scope, status: int, seconds: float, told: dict[str, Any]) -> None:
    """Fills `told` with what the log's line has as fields."""
    method = scope["method"] if scope["method"] in METHODS else OTHER
    route = getattr(scope.get("route"), "path", UNMATCHED)
    scope["app"].state.codewell.metrics.request(method, route, status, seconds)
    ms = round(1000 * seconds, 3)
    told |= {"method": method, "route": route, "status": status, "ms": ms}
    level = logging.DEBUG if route in PROBES and status < 400 else logging.INFO
    log.log(level, "%s %s %s %s ms", method, route, status, ms, extra=told)
