"""By which host names the server may be called. Knows no route."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem
from service.errors import Misdirected

LOCAL = ("localhost", "127.0.0.1", "::1")
"""A health check on the machine itself calls it by these."""
PORT = re.compile(r":\d*$")


class TrustedHosts:
    """ASGI middleware: answers 421 where Host is none of the names, so that no page of another name, which its owner
    let point here, can call the server from a browser.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = [host.lower() for host in (*hosts, *LOCAL)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or answers."""
        if scope["type"] == "http" and not self._trusts(Headers(scope=scope).get("host", "")):
            refusal = Misdirected("this server is not called so: CODEWELL_TRUSTED_HOSTS has its names", field="Host")
            await problem(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _trusts(self, called: str) -> bool:
        name = PORT.sub("", called).strip("[]").lower()
        return any(
            host in ("*", name) or (host.startswith("*.") and name.endswith(host.removeprefix("*")))
            for host in self._hosts
        )
