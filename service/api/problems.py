"""Errors as RFC 9457 problem JSON. Knows the error tree and nothing of what raised it."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from models import BadConfig
from service.api.headers import HEADERS
from service.api.signals import HEADER as REQUEST_HEADER
from service.errors import CodewellError, InvalidInput, Unauthorized
from service.log import REQUEST_ID

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
KINDS = {
    "codec": ("dense", "variational", "sparse", "binary", "residual", "faiss"),
    "fusion": ("rrf", "weights"),
}
LONGEST_INPUT = 100
"""Characters of a refused input that are repeated in the answer."""


class Problem(BaseModel):
    """An error as RFC 9457 has it, with what of the request it is about."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    errors: list[dict[str, Any]] | None = None
    request_id: str | None = None


def problem(error: CodewellError) -> JSONResponse:
    """The answer for an error of the tree."""
    body: dict[str, Any] = {
        "type": "urn:codewell:" + error.title.lower().replace(" ", "-"),
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.field is not None:
        body["field"] = error.field
    body |= error.members | _request_id()
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, error.status, headers, MEDIA_TYPE)


def responses() -> dict[int | str, dict[str, Any]]:
    """How the API's description lists them."""
    said = {
        401: "Unauthorized: no valid API key",
        403: "Forbidden: the API key does not allow this",
        404: "Not found",
        409: "Conflict",
        413: "Too large",
        422: "Invalid input",
        429: "Too many requests, or more kept than is allowed",
        503: "Unavailable: try again",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "description": title, "content": content} for status, title in said.items()}


def field_path(location: Sequence[int | str]) -> str:
    """("body", "items", 3, "vector") as "items[3].vector"."""
    path, before = "", ""
    for part in location[1:] if location and location[0] in ("body", "query", "path", "header") else location:
        # Within these, pydantic names the kind that they were read as; the request has no such level.
        if part not in KINDS.get(before, ()):
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        before = str(part)
    return path


def _field(error: Any) -> str:
    path = field_path(error["loc"]) or "body"
    return f"{path}.kind" if error["type"] == "union_tag_invalid" else path


def readable(error: Any) -> str:
    """One of pydantic's errors in words, with the refused input where it is short."""
    if error["type"] == "extra_forbidden":
        return f"Extra inputs are not permitted: there is no field {str(error['loc'][-1])!r} here"
    if error["type"] == "union_tag_invalid":
        return f"there is no kind {error['ctx']['tag']!r}; there are {error['ctx']['expected_tags']}"
    given = error.get("input")
    said = str(error["msg"]).removeprefix("Value error, ")
    short = isinstance(given, int | float | None) or (isinstance(given, str) and len(given) <= LONGEST_INPUT)
    return f"{said}; got {given!a}" if short and error["type"] != "missing" else said


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem."""

    @app.exception_handler(CodewellError)
    def known(_: Request, error: CodewellError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(BadConfig)
    def configuration(_: Request, error: BadConfig) -> JSONResponse:
        return problem(InvalidInput(error.detail, field=f"codec.{error.field}"))

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        errors: list[dict[str, object]] = [{"field": _field(one), "detail": readable(one)} for one in error.errors()]
        if any(one["type"] == "json_invalid" for one in error.errors()):
            detail = f"the body is not JSON: {error.errors()[0].get('ctx', {}).get('error', 'malformed')}"
            return problem(InvalidInput(detail, field="body"))
        if isinstance(error.errors()[0]["input"], bytes):
            return problem(InvalidInput("send the body as application/json", field="body"))
        first = errors[0]
        refused = InvalidInput(f"{first['field']}: {first['detail']}", field=str(first["field"]))
        refused.members["errors"] = errors
        return problem(refused)

    @app.exception_handler(HTTPException)
    def plain(_: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, CodewellError):
            return problem(error.__cause__)
        if error.status_code == 400 and error.__cause__ is not None:  # FastAPI could not parse the body
            return problem(InvalidInput(_unparsed(error.__cause__), field="body"))
        body = {
            "type": "about:blank",
            "title": str(error.detail),
            "status": error.status_code,
            "detail": str(error.detail),
        } | _request_id()
        return JSONResponse(body, error.status_code, error.headers, MEDIA_TYPE)

    @app.exception_handler(Exception)
    def unknown(request: Request, error: Exception) -> JSONResponse:
        route = getattr(request.scope.get("route"), "path", "a request")  # not its path, which may hold anything
        log.exception("%s %s failed", request.method, route, exc_info=error)
        answer = problem(CodewellError("the server met an error that it did not expect; its log has the details"))
        # It is made outside of every middleware, those that add headers included.
        answer.headers.update(HEADERS | {REQUEST_HEADER: REQUEST_ID.get() or ""})
        return answer


def _request_id() -> dict[str, str]:
    """So that who sees an error only as a body can find it in the log."""
    request_id = REQUEST_ID.get()
    return {} if request_id is None else {"request_id": request_id}


def _unparsed(cause: BaseException) -> str:
    if isinstance(cause, RecursionError):
        return "the body is nested too deep"
    if isinstance(cause, UnicodeDecodeError):
        return "the body is not JSON: it is not UTF-8"
    return f"the body is not JSON that can be read: {cause}"
