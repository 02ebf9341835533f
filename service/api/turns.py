"""How many requests are worked on at the same time, and who waits for a turn. Knows no key and no body.

Searches, streams and all others have places of their own, so that none of them keeps the others out; questions for
health and signals wait for nobody.
"""

import asyncio
import logging
from enum import StrEnum

from anyio.to_thread import current_default_thread_limiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.ndjson import is_ndjson
from service.api.problems import problem
from service.api.reference import is_reference
from service.api.signals import LIVE, METRICS, READY
from service.errors import Busy
from service.settings import Settings

log = logging.getLogger(__name__)

SPARE_THREADS = 16
"""For what needs no turn: keys that are looked up, health, signals."""


class Kind(StrEnum):
    """What takes turns among its like."""

    SEARCHES = "searches"
    STREAMS = "streams"
    OTHERS = "requests"


def kind_of(scope: Scope) -> Kind | None:
    """None for what needs no turn."""
    path = scope["path"]
    if path in (LIVE, READY, METRICS) or is_reference(path):
        return None
    if path in ("/ingest", "/search") and is_ndjson(scope):
        return Kind.STREAMS
    return Kind.SEARCHES if path == "/search" else Kind.OTHERS


class Places:
    """Turns of one kind, first come, first served; for one event loop."""

    def __init__(self, kind: Kind, most: int, waiting: int, seconds: float) -> None:
        self._kind = kind
        self._free = asyncio.Semaphore(most)
        self._most = most
        self._most_waiting = waiting
        self._seconds = seconds
        self._waiting = 0

    async def take(self) -> None:
        """Waits for a turn.

        Raises:
            Busy: too many wait already, or it took too long.
        """
        if self._free.locked() and self._waiting >= self._most_waiting:
            raise Busy(
                f"{self._most} {self._kind} are worked on and {self._waiting} wait; try again later; "
                "CODEWELL_CONCURRENT_REQUESTS and CODEWELL_WAITING_REQUESTS raise it"
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Busy(
                f"no turn came within {self._seconds:g} seconds, for {self._most} {self._kind} are worked on; try again"
                " later; CODEWELL_CONCURRENT_REQUESTS and CODEWELL_WAITING_MS raise it"
            ) from None
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Lets the next one in."""
        self._free.release()


class Turns:
    """ASGI middleware: a request waits for its turn, or is answered 503."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._seconds = settings.body_seconds
        most, waiting, seconds = settings.concurrent_requests, settings.waiting_requests, settings.waiting_ms / 1000
        # A stream lasts as long as its client likes: nobody waits for the end of one.
        self._places = {kind: Places(kind, most, 0 if kind is Kind.STREAMS else waiting, seconds) for kind in Kind}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on once it is its turn, which ends when its answer begins, and a stream's when it ends."""
        kind = kind_of(scope) if scope["type"] == "http" else None
        if kind is None:
            await self._app(scope, receive, send)
            return
        places = self._places[kind]
        try:
            await places.take()
        except Busy as error:
            await problem(error)(scope, receive, send)
            return
        ended = unread = False

        async def sent(message: Message) -> None:
            nonlocal ended, unread
            if kind is Kind.STREAMS:
                try:
                    async with asyncio.timeout(self._seconds):  # who reads nothing must not keep the place
                        await send(message)
                except TimeoutError:
                    unread = True
                    raise
                return
            if not ended:
                ended = True
                places.leave()
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except TimeoutError:
            if not unread:
                raise
            log.info("nobody read the answer to %s %s", scope["method"], scope["path"])
        finally:
            if not ended:
                places.leave()


def set_threads(settings: Settings) -> None:
    """Lets every turn have its thread, and leaves some for what needs no turn; called within the event loop."""
    current_default_thread_limiter().total_tokens = len(Kind) * settings.concurrent_requests + SPARE_THREADS
