"""HTTP by h11, with a time for a request's headers and a bound on connections. Knows no route."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
"""What is answered to a connection too many: nothing of it is read."""


class BoundedProtocol(H11Protocol):
    """Closes a connection whose next request does not come to the end of its headers within `head_seconds`, or whose
    body does not end so soon after its answer. One that sends nothing at all after an answer is closed by uvicorn.
    One that comes when `most` are open is answered 503 and closed.
    """

    def __init__(self, *given: Any, head_seconds: float, most: int, **named: Any) -> None:
        super().__init__(*given, **named)
        self._most = most
        self._head_seconds = head_seconds
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time begins with the connection."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.write(FULL)
            transport.close()
        self._set_timer()

    def data_received(self, data: bytes) -> None:
        """It ends with the headers, and begins again with the first byte of the next ones."""
        super().data_received(data)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        self._stop_timer()

    def on_response_complete(self) -> None:
        """What is left of a body that was refused is read for a while, so that its sender lives to read the answer."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._set_timer()

    def _set_timer(self) -> None:
        answered = self.cycle is not None and self.cycle.response_complete
        late = self.conn.their_state is h11.IDLE or (self.conn.their_state is h11.SEND_BODY and answered)
        if not late or self.transport.is_closing():
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._head_seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
