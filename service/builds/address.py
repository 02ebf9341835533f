"""URLs as users give them and as anyone may see them. Knows no file system and no database."""

import re
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_QUERIED = ("abfs", "abfss", "az", "http", "https", "wasb", "wasbs", "webdav", "webdavs")
"""Where ? begins a query, and not a glob's wildcard."""
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")
"""Where what stands before @ is a container and no user."""


def is_url(text: object) -> bool:
    """Whether it begins as a URL; a local path does not."""
    return isinstance(text, str) and _URL.match(text) is not None


def scheme(url: str) -> str:
    """In lower case; "" of a path."""
    found = _URL.match(url)
    return "" if found is None else found.group(1).lower()


def shown(url: str) -> str:
    """The URL without user, password and query, for a query may be a signature: what messages, rejects and manifests
    have, and what an input is known by.
    """
    protocol = scheme(url)
    place, _ = split(url)
    head, slashes, rest = place.partition("://")
    host, slash, path = rest.partition("/")
    if protocol in _CONTAINERS and ":" not in host:
        return place
    return head + slashes + host.rpartition("@")[2] + slash + path


def split(url: str) -> tuple[str, str]:
    """What stands before the query, and the query; a ? that is a wildcard begins none."""
    place, mark, query = url.partition("?") if scheme(url) in _QUERIED else url.rpartition("?")
    if not mark or (scheme(url) not in _QUERIED and ("/" in query or "=" not in query)):
        return url, ""
    return place, query


def joined(url: str, name: str) -> str:
    """The URL of what is called `name` in the folder at `url`."""
    place, query = split(url)
    return f"{place.rstrip('/')}/{name}{'?' if query else ''}{query}"


def path_of(text: str) -> str:
    """The local path that a path or a `file://` URL names; any other URL as it is."""
    if scheme(text) not in ("file", "local"):
        return text
    return url2pathname(urlsplit(text).netloc + urlsplit(text).path)


def scrubbed(text: str, url: str) -> str:
    """The text without what `shown` leaves out, in whatever pieces a library has put it there."""
    text = text.replace(url, shown(url))
    place, query = split(url)
    user = place.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if user and user in shown(url):
        user = ""
    password = user.partition(":")[2] or user
    values = [one.partition("=")[2] for one in query.split("&")]
    pieces = {query, user, password, *values}
    for piece in sorted(pieces | {unquote(piece) for piece in pieces}, key=len, reverse=True):
        if len(piece) > 2:
            text = text.replace(piece, "…")
    return text
