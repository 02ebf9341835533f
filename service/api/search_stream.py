"""POST /search as NDJSON: a question a line, an answer a line, sent as they are found. Knows no index."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from service.api import intake
from service.api.access import READ, admitted
from service.api.dependencies import CodewellDep
from service.api.fields import Name
from service.api.limits import check_parts, check_size
from service.api.ndjson import MEDIA_TYPE, NdjsonRoute
from service.api.problems import field_path, problem, readable
from service.api.search import answered
from service.api.search_schemas import QueryIn
from service.errors import CodewellError, InvalidInput, Unavailable
from service.permitted import Permitted
from service.settings import Settings

TOGETHER = 100
"""Questions answered in one pass; then their answers are sent."""


async def lines(request: Request) -> list[bytes]:
    """The body's lines, without blank ones."""
    return [line for line in (await request.body()).split(b"\n") if line.strip()]


router = APIRouter(route_class=NdjsonRoute)


@router.post("/search", include_in_schema=False, dependencies=[READ])
def search_stream(
    request: Request,
    lines: Annotated[list[bytes], Depends(lines)],
    codewell: CodewellDep,
    collection: Name = "default",
) -> StreamingResponse:
    """Answers line by line; a question that cannot be answered has its problem as its line."""
    if not lines:
        raise InvalidInput("the body has no line with a question", field="body")

    def together(some: list[bytes]) -> bytes:
        admitted(request.scope)  # the key may have been revoked since the answer began
        return _together(some, codewell, collection)

    return StreamingResponse(_answers(lines, together), media_type=MEDIA_TYPE)


def _answers(lines: list[bytes], together: Callable[[list[bytes]], bytes]) -> Iterator[bytes]:
    for start in range(0, len(lines), TOGETHER):
        some = lines[start : start + TOGETHER]
        try:
            yield together(some)
        except Unavailable as error:  # it would not be there for one of them either
            yield (bytes(problem(error).body) + b"\n") * len(some)
        except CodewellError:
            for line in some:  # one of them is wrong: the others have their answers all the same
                try:
                    yield together([line])
                except CodewellError as error:
                    yield bytes(problem(error).body) + b"\n"


def _together(lines: list[bytes], codewell: Permitted, collection: str) -> bytes:
    asked = intake.questions([_question(line, codewell.settings) for line in lines], collection, codewell.settings)
    return b"".join(answer.model_dump_json().encode() + b"\n" for answer in answered(asked, codewell))


def _question(line: bytes, settings: Settings) -> QueryIn:
    try:
        check_parts(line, settings, "body")
        given = json.loads(line)
        check_size(given, settings)
        return QueryIn.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(readable(first), field=field_path(first["loc"]) or "body") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the line is not JSON: {error}", field="body") from None
