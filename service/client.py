"""The REST API as Python calls. Knows HTTP and JSON, and nothing of files, terminals or what the server does inside.

httpx is imported with the first client: the server and its jobs, which know only the errors, start without it.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 600.0
"""A batch of long texts takes a slow machine minutes to encode."""
RETRIES = 5
"""Times that an ingest is sent again after a 503, of which nothing was kept."""
LONGEST_BODY = 200
"""Characters that are shown of an answer that is not JSON."""


class ClientError(Exception):
    """The root of what a call raises; its text is one line for a user."""


class ServerUnreachable(ClientError):
    """No server answered."""


class ServerRefused(ClientError):
    """The server answered with an error, as problem JSON or otherwise."""

    def __init__(self, status: int, title: str, detail: str, field: str | None, members: Mapping[str, Any]) -> None:
        where = f" ({field})" if field else ""
        super().__init__(f"{title}: {detail}{where}" if detail and detail != title else f"{title}{where}")
        self.status = status
        self.title = title
        self.detail = detail
        self.field = field
        self.members = members
        """The whole problem, such as `errors` and `committed_through_line`."""

    @classmethod
    def of(cls, answer: "httpx.Response") -> "ServerRefused":
        """The error of an answer whose status is 400 or more."""
        try:
            problem = json.loads(answer.content)
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {"detail": answer.text[:LONGEST_BODY]}
        title = str(problem.get("title") or f"{answer.status_code} {answer.reason_phrase}")
        field = problem.get("field")
        return cls(answer.status_code, title, str(problem.get("detail") or ""), field and str(field), problem)


class Client:
    """One server, over kept connections; several threads may share it. A context that closes them.

    Every call raises ServerUnreachable, or ServerRefused where the answer is an error.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        import httpx

        self.url = url.rstrip("/")
        api_key = (api_key or "").strip()
        if not (api_key.isascii() and api_key.isprintable()):
            raise ClientError("the API key has characters that no key has; one looks like cw_0123456789ab_…")
        try:
            parsed = httpx.URL(self.url)
        except (httpx.InvalidURL, TypeError) as error:
            raise ClientError(f"{url!r} is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ClientError(f"{url!r} is not the URL of a server; one looks like http://127.0.0.1:8000")
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        # A proxy of the environment is for other machines, not for this one.
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout,
            trust_env=not is_loopback(parsed.host),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    # what goes in

    def ingest(self, collection: str, items: Sequence[Mapping[str, Any]], *, atomic: bool = False) -> dict[str, Any]:
        """Sends one batch; the answer means that it is committed.

        Items without an id get one here, for a batch that is sent again must not be kept twice.
        """
        named = [item if item.get("id") is not None else {**item, "id": uuid.uuid4().hex} for item in items]
        body = {"collection": collection, "items": named, "atomic": atomic}
        return self._call("POST", "/ingest", body, retries=RETRIES)

    def ingest_ndjson(self, collection: str, lines: Iterable[bytes]) -> dict[str, Any]:
        """Streams lines of JSON, each with its newline, singly or many in one `bytes`; committed batch by batch."""
        headers = {"Content-Type": "application/x-ndjson"}
        return self._answer("POST", "/ingest", params={"collection": collection}, content=lines, headers=headers)

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a collection: `name`, and `dimension` or `encoder`."""
        return self._call("POST", "/collections", body)

    def delete(self, collection: str) -> None:
        """Removes a collection with everything in it."""
        self._call("DELETE", _path("collections", collection))

    # what comes out

    def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One question, or many in `queries`."""
        return self._call("POST", "/search", body)

    def search_ndjson(self, collection: str, queries: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Thousands of questions in one request; answers come as they are found, in order.

        The answer to a question that is wrong is its problem: it has a `title` and no `hits`.
        """
        content = b"".join(json.dumps(query).encode() + b"\n" for query in queries)
        headers = {"Content-Type": "application/x-ndjson"}
        with (
            self._told(),
            self._http.stream(
                "POST", "/search", params={"collection": collection}, content=content, headers=headers
            ) as answer,
        ):
            if answer.status_code >= 400:
                answer.read()
                raise ServerRefused.of(answer)
            for line in answer.iter_lines():
                yield json.loads(line)

    def items(self, collection: str, ids: Sequence[str], include: Sequence[str] = ("text",)) -> dict[str, Any]:
        """Items by id: those that exist, and which are missing."""
        return self._call("POST", _path("collections", collection) + "/items/get", {"ids": ids, "include": include})

    def collections(self) -> list[dict[str, Any]]:
        """Every collection by name."""
        return list(self._call("GET", "/collections")["collections"])

    def collection(self, name: str) -> dict[str, Any]:
        """One collection by name or alias."""
        return self._call("GET", _path("collections", name))

    # jobs and health

    def train(self, collection: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Queues a training and answers its job."""
        return self._call("POST", _path("collections", collection) + "/train", body)

    def plan(self, collection: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Queues a plan and answers its job, whose result it will be."""
        return self._call("POST", _path("collections", collection) + "/plan", body)

    def rollback(self, collection: str, generation: int | None = None) -> dict[str, Any]:
        """Queues the way back to a generation that is kept, and answers its job."""
        body = {} if generation is None else {"generation": generation}
        return self._call("POST", _path("collections", collection) + "/rollback", body)

    def cut(self, collection: str, size: int) -> dict[str, Any]:
        """Queues a cut of the collection's codes to their first `size` bytes, and answers its job."""
        return self._call("PATCH", _path("collections", collection), {"codec": {"bytes": size}})

    def set_retrain(self, collection: str, policy: Mapping[str, Any] | None) -> dict[str, Any]:
        """Sets when the collection is trained again by itself, none for never, and answers the collection."""
        return self._call("PATCH", _path("collections", collection), {"retrain": policy})

    def held_queries(self, collection: str) -> dict[str, Any]:
        """How many queries codecs are measured by."""
        return self._call("GET", _path("collections", collection) + "/queries")

    def forget_queries(self, collection: str) -> None:
        """Removes them."""
        self._call("DELETE", _path("collections", collection) + "/queries")

    def give_queries(self, collection: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Adds queries to measure codecs by, `texts` or `vectors`, and answers how many there are."""
        return self._call("POST", _path("collections", collection) + "/queries", given)

    def certificate(self, collection: str) -> dict[str, Any]:
        """What was measured of the published codec."""
        return self._call("GET", _path("collections", collection) + "/certificate")

    def recall(self, collection: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Where recall is lost now; `asked` are the parameters of the request."""
        return self._answer("GET", _path("collections", collection) + "/recall", params=dict(asked))

    def job(self, job_id: str) -> dict[str, Any]:
        """How far a job is, and how it ended."""
        return self._call("GET", _path("jobs", job_id))

    def picture(self, job_id: str, name: str) -> bytes:
        """One of a job's pictures, as PNG."""
        return self._sent("GET", f"{_path('jobs', job_id)}{_path('pictures', name)}").content

    def jobs(self) -> list[dict[str, Any]]:
        """The newest jobs first."""
        return list(self._call("GET", "/jobs")["jobs"])

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Asks a job to stop."""
        return self._call("DELETE", _path("jobs", job_id))

    def ready(self) -> dict[str, Any]:
        """That the server can answer; raises where it cannot."""
        return self._call("GET", "/readyz")

    def metrics(self) -> str:
        """What the server tells Prometheus."""
        return self._sent("GET", "/metrics").text

    def _call(self, method: str, path: str, body: object = None, *, retries: int = 0) -> dict[str, Any]:
        # Python's own JSON lets NaN through: the server refuses the one item that has it, by name.
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content is not None else {}
        for attempt in range(retries + 1):
            try:
                return self._answer(method, path, content=content, headers=headers)
            except ServerRefused as refused:
                if refused.status != 503 or attempt == retries:
                    raise
                time.sleep(2**attempt / 2)
        raise AssertionError("unreachable")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Says in a ClientError why there is no answer."""
        import httpx

        try:
            yield
        except httpx.ConnectError as error:
            raise ServerUnreachable(f"no server at {self.url}: start one with `codewell serve` ({error})") from error
        except httpx.TimeoutException as error:
            raise ServerUnreachable(f"the server at {self.url} did not answer in time") from error
        except httpx.HTTPError as error:
            raise ServerUnreachable(f"the connection to {self.url} broke: {error}") from error

    def _sent(self, method: str, path: str, **request: Any) -> "httpx.Response":
        """The answer, where it is no error."""
        import httpx

        with self._told():
            try:
                answer = self._http.request(method, path, **request)
            except (httpx.RemoteProtocolError, httpx.ReadError):
                # A connection that was kept and that the server closed meanwhile: to ask again does no harm.
                if method != "GET":
                    raise
                answer = self._http.request(method, path, **request)
        if answer.status_code >= 400:
            raise ServerRefused.of(answer)
        return answer

    def _answer(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = self._sent(method, path, **request)
        if answer.status_code == 204:
            return {}
        try:
            said = json.loads(answer.content)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise ClientError(f"what answers at {self.url} is no Codewell server: {method} {path} gave no JSON object")
        return said


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _path(noun: str, name: str) -> str:
    return f"/{noun}/{quote(name, safe='')}"
