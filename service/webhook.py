"""Sends notices to an operator's endpoint, signed, in order, until they are taken. Knows no SQL and no event.

httpx is imported with the first notice: a server without a webhook starts without it.
"""

import asyncio
import logging
import time
from importlib.metadata import version
from pathlib import Path
from ssl import SSLContext
from threading import Event, Thread
from typing import IO
from urllib.parse import urlsplit

from service.files import locked
from service.notices import Notice, Notices
from service.signature import signature

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TIMEOUT = 10.0
"""Seconds of an attempt, from the search for the host's address to the head of its answer."""
CLAIM_SECONDS = TIMEOUT + 5
"""For so long nobody else sends the same notice, and after it somebody does where the sender was killed."""
SHORTEST, LONGEST = 5.0, 900.0
"""Seconds after the first failure, doubled after each further one, and at most."""
KEPT_SECONDS = 3 * 86_400
"""A notice that fails when it is older is given up; each is tried once at least."""
STOP_SECONDS = 2.5
"""How long an attempt under way may hold up the server's end."""


class Webhook:
    """A thread that sends. An attempt that fails holds up the notices after it, and nothing else.

    Of the processes over one folder of jobs the one with the lock sends. Those of other machines do as well: that one
    sends a notice at a time is for the database to say.
    """

    def __init__(self, url: str, key: bytes, notices: Notices, folder: Path, shortest: float = SHORTEST) -> None:
        """`shortest` in seconds: what is waited after a first failure. Connects to nothing yet."""
        parts = urlsplit(url)
        self._url = url
        self._where = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        """What may be logged: user, password, path and query may be secrets."""
        self._key = key
        self._notices = notices
        self._path = folder / "webhook.lock"
        self._shortest = shortest
        self._trusted: SSLContext | None = None
        """Read from its file once: it takes a hundred times as long as the rest of a client."""
        self._lock: IO[str] | None = None
        self._failing = False
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="webhook", daemon=True)

    def start(self) -> None:
        """Begins to send what waits."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the attempt under way, or without it where that takes long: the notice is sent again then."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        failed = False
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                if self._lock is None:
                    self._lock = locked(self._path, wait=False)
                if self._lock is not None:
                    while not self._stopping.is_set() and self._sent():
                        pass
                failed = False
            except Exception:
                # A database that is away comes back.
                if not failed:
                    log.exception("could not look for notices; going on trying")
                failed = True
        if self._lock is not None:
            self._lock.close()

    def _sent(self) -> bool:
        """Whether a notice was there and was taken: then the next one may be, too."""
        notice = self._notices.claim(time.time(), CLAIM_SECONDS)
        if notice is None:
            return False
        refusal = self._refusal(notice)
        if refusal is None:
            self._notices.remove(notice)
            if self._failing:
                log.info("the webhook at %s takes notices again", self._where)
            self._failing = False
            return True
        now = time.time()
        if now - notice.created_at > KEPT_SECONDS:
            self._notices.remove(notice)
            said = "the webhook at %s did not take %s in %d attempts, and it is given up: %s"
            log.error(said, self._where, notice.message_id, notice.attempt, refusal)
            return True
        wait = min(LONGEST, self._shortest * 2 ** min(notice.attempt - 1, 32))
        self._notices.postpone(notice, now + wait)
        if not self._failing:
            said = "the webhook at %s did not take %s, and is tried again: %s"
            log.warning(said, self._where, notice.message_id, refusal)
        self._failing = True
        return False

    def _refusal(self, notice: Notice) -> str | None:
        """Why one attempt failed; none where the notice was taken."""
        try:
            status = asyncio.run(self._status(notice))
        except TimeoutError:
            return f"no answer within {TIMEOUT:.0f} s"
        except Exception as error:
            # Whatever it is, the notice must not be lost; nor may the error's words be logged, if they show the URL.
            return f"{type(error).__name__}{'' if self._url in str(error) else f': {error}'}"
        return None if 200 <= status < 300 else f"it answered {status}"

    async def _status(self, notice: Notice) -> int:
        """Of the answer, of which no more than the head is read. A redirect is an answer."""
        import httpx

        self._trusted = self._trusted or httpx.create_ssl_context()
        body, now = notice.body.encode(), int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"codewell/{version('codewell')}",
            "webhook-id": notice.message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._key, notice.message_id, now, body),
        }
        async with (
            asyncio.timeout(TIMEOUT),  # of the whole, which httpx's own are not
            httpx.AsyncClient(verify=self._trusted, timeout=TIMEOUT, follow_redirects=False) as client,
            client.stream("POST", self._url, content=body, headers=headers) as answer,
        ):
            return answer.status_code
