"""Bodies of JSON lines. Knows no route by name."""

from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

MEDIA_TYPE = "application/x-ndjson"


def is_ndjson(scope: Scope) -> bool:
    """Whether a request's body is of the NDJSON media type."""
    media: bytes = dict(scope.get("headers") or []).get(b"content-type", b"")
    return media.lower().startswith(MEDIA_TYPE.encode())


def described(example: str) -> dict[str, Any]:
    """What the description of a route for JSON says of such a body, which another route of its path takes."""
    content = {MEDIA_TYPE: {"schema": {"type": "string"}, "example": example}}
    return {"requestBody": {"content": content}}


class NdjsonRoute(APIRoute):
    """Matches only bodies of the NDJSON media type, so that a path can take both."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As any route, where the media type is the stream's."""
        return super().matches(scope) if is_ndjson(scope) else (Match.NONE, {})
