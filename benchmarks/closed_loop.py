"""A light HTTP client: so many connections, each with one request under way at any time. Knows no server.

It shares the machine with the server that it measures, so it does no more than it must: requests are bytes that were
made before, and of an answer it looks for the end. One asyncio process for all connections.
"""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"


@dataclass
class Asked:
    """What became of the requests of a stretch of time."""

    seconds: float
    """From the first request to the end of the last."""
    cpu: float
    """Seconds of this process's CPU."""
    numbers: list[int] = field(default_factory=list)
    """Which request each answer is to, in the order in which they came,"""
    ended: list[float] = field(default_factory=list)
    """seconds after the first request at which it was whole,"""
    took: list[float] = field(default_factory=list)
    """and seconds that it took."""
    answers: list[bytes] = field(default_factory=list)
    """Their bodies."""


@dataclass(frozen=True)
class Slice:
    """A share of that time."""

    rate: float
    """Answers a second."""
    p50: float
    """Milliseconds."""
    p99: float


def request(path: str, body: bytes) -> bytes:
    """A POST of JSON over a connection that stays open."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + HEAD_END + body


def asked(port: int, requests: Sequence[bytes], clients: int, seconds: float = 0, least: int = 0) -> Asked:
    """Asks for so long and at least so often, the requests in turns; each client asks again once it is answered.

    Raises:
        RuntimeError: an answer is no success, or a connection was closed.
    """
    return asyncio.run(_asked(port, _Run(requests, clients, seconds, least)))


class Line:
    """One connection, asked when its owner likes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """The body of the answer.

        Raises:
            RuntimeError: it is no success. ConnectionError: it did not come whole.
        """
        self._socket.sendall(request)
        came = self._more(b"", lambda came: HEAD_END in came)
        head, _, body = came.partition(HEAD_END)
        size = LENGTH.search(head + HEAD_END)
        body = self._more(body, lambda body: size is not None and len(body) >= int(size[1]))
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"{head.decode()} {body.decode()}")
        return body

    def _more(self, came: bytes, enough: Callable[[bytes], bool]) -> bytes:
        while not enough(came):
            if not (part := self._socket.recv(65_536)):
                raise ConnectionError("the server closed the connection")
            came += part
        return came

    def close(self) -> None:
        """Closes it."""
        self._socket.close()


def sliced(found: Asked, slices: int) -> list[Slice]:
    """The time in equal parts; an answer counts where it ended, and what came after the last part does not."""
    ended, took = np.array(found.ended), 1_000 * np.array(found.took)
    edges = np.linspace(0, min(found.seconds, found.ended[-1]), slices + 1)
    parts = []
    for begin, end in pairwise(edges.tolist()):
        here = took[(ended > begin) & (ended <= end)]
        if len(here):
            p50, p99 = np.percentile(here, (50, 99))
            parts.append(Slice(len(here) / (end - begin), float(p50), float(p99)))
    return parts


async def _asked(port: int, run: "_Run") -> Asked:
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port) for _ in range(run.asking)]
    cpu = time.process_time()
    run.began = time.perf_counter()
    for _, connection in opened:
        connection.ask()
    await run.over.wait()
    found = run.found
    found.cpu, found.seconds = time.process_time() - cpu, time.perf_counter() - run.began
    for transport, _ in opened:
        transport.close()
    await asyncio.sleep(0)  # which they do now
    if run.failed is not None:
        raise RuntimeError(run.failed)
    return found


class _Run:
    """What the connections share."""

    def __init__(self, requests: Sequence[bytes], clients: int, seconds: float, least: int) -> None:
        self.requests = requests
        self.over = asyncio.Event()
        self.found = Asked(0, 0)
        self.failed: str | None = None
        self.began = 0.0
        self.asking = clients
        """That ask still."""
        self._seconds = seconds
        self._least = least
        self._asked = 0

    def next(self) -> int | None:
        """The number of the next request; none when it is over."""
        late = time.perf_counter() - self.began >= self._seconds
        if self.failed is not None or (late and self._asked >= self._least):
            self.asking -= 1
            if not self.asking:
                self.over.set()
            return None
        self._asked += 1
        return (self._asked - 1) % len(self.requests)

    def fail(self, why: str) -> None:
        """Ends it for all."""
        self.failed = self.failed or why
        self.over.set()


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._number: int | None = None
        self._came = b""
        self._whole = 0
        """Bytes of the answer, once its head is here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing is asked yet."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def ask(self) -> None:
        """Sends the next request, if there is one."""
        self._number = self._run.next()
        if self._number is not None:
            self._began = time.perf_counter()
            self._transport.write(self._run.requests[self._number])

    def data_received(self, data: bytes) -> None:
        """A part of an answer, mostly all of it."""
        self._came = self._came + data if self._came else data
        if not self._whole:
            head = self._came.find(HEAD_END)
            if head < 0:
                return
            length = LENGTH.search(self._came, 0, head + 2)
            if length is None or not self._came.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                self._run.fail(f"no answer that can be counted: {self._came[:500]!r}")
                return
            self._body = head + len(HEAD_END)
            self._whole = self._body + int(length[1])
        if len(self._came) < self._whole:
            return
        now, found = time.perf_counter(), self._run.found
        assert self._number is not None
        found.numbers.append(self._number)
        found.ended.append(now - self._run.began)
        found.took.append(now - self._began)
        found.answers.append(self._came[self._body :])
        self._came, self._whole = b"", 0
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody closes it while something is asked."""
        if self._number is not None:
            self._run.fail(f"the connection was closed: {exc}")
