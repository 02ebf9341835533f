"""How many requests an API key may send. Knows no route.

Every process counts by itself: what a key sends to several of them is counted by each, and no request waits for a count
that another process keeps.
"""

import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.access import RIGHTS
from service.api.problems import problem
from service.api.signals import READY
from service.errors import RateExceeded
from service.rights import NOTHING


class Bucket:
    """Tokens that come at a rate; as many as come in a second, one at least, are kept."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._tokens = math.inf

    def take(self, rate: float, now: float) -> float:
        """Takes a token; 0, or the seconds until there is one."""
        most = max(1.0, rate)
        self._tokens = min(most, self._tokens + rate * (now - self._at))
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / rate
        self._tokens -= 1
        return 0.0


class Rates:
    """ASGI middleware: answers 429 to a key that sends more than its rate, before the body is read."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        """By key that has a rate."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or answers."""
        allowance = scope.get(RIGHTS, NOTHING).allowance if scope["type"] == "http" else None
        if allowance is not None and allowance.rate is not None and scope["path"] != READY:
            now = self._clock()
            bucket = self._buckets.setdefault(allowance.key, Bucket(now))
            if wait := bucket.take(allowance.rate, now):
                refusal = RateExceeded(
                    f"this API key may send {allowance.rate:g} requests a second; slow down, or use a key with more",
                    math.ceil(wait),
                )
                await problem(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)
