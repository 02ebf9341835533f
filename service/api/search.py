"""POST /search: one question or many. Knows no index."""

import time

from fastapi import APIRouter, Response

from service.api import intake
from service.api.access import READ
from service.api.dependencies import CodewellDep
from service.api.large import LargeRoute
from service.api.ndjson import described
from service.api.search_schemas import AnswerOut, BatchResponse, QueryIn, SearchRequest, SearchResponse
from service.deadline import Deadline
from service.errors import OutOfTime
from service.permitted import Permitted
from service.query import Answer, Query

router = APIRouter(tags=["search"], route_class=LargeRoute)


NDJSON_BODY = described('{"text": "fish", "k": 1}\n{"text": "music", "k": 1}\n')


@router.post("/search", response_model=SearchResponse | BatchResponse, openapi_extra=NDJSON_BODY, dependencies=[READ])
def search(body: SearchRequest, codewell: CodewellDep) -> Response:
    """The nearest items to a text, a vector or an item, or those with a text's words, or both by the mode hybrid.
    `queries` asks many questions in one pass.

    Before a collection's first training the answer is exact. Higher scores are better: the cosine, the inner product,
    or minus the squared distance.

    As `application/x-ndjson` with `?collection=` thousands of questions come a line each, and an answer a line is sent
    as it is found; a question that is wrong has its problem as its line.
    """
    began = time.perf_counter()
    answers = answered(intake.queries(body, codewell.settings), codewell)
    took_ms = round(1000 * (time.perf_counter() - began), 3)
    found: SearchResponse | BatchResponse
    if body.queries is not None:
        found = BatchResponse(results=answers, took_ms=took_ms)
    else:
        found = SearchResponse.model_construct(**vars(answers[0]), took_ms=took_ms)
    # Made of our own types a moment ago: FastAPI would validate it again, on the thread that all requests share.
    return Response(found.model_dump_json(), media_type="application/json")


def answered(asked: list[tuple[str, Query, QueryIn]], codewell: Permitted) -> list[AnswerOut]:
    """Questions to one collection go in one pass; the answers keep the order of the questions. All of them together
    have the longest of their times.
    """
    budgets = [given.timeout_ms or codewell.settings.search_ms for _, _, given in asked]
    deadline = Deadline(max(budgets) / 1000)
    by_collection: dict[str, list[int]] = {}
    for position, (name, _, _) in enumerate(asked):
        by_collection.setdefault(name, []).append(position)
    answers: dict[int, AnswerOut] = {}
    for name, positions in by_collection.items():
        vectors = any("vector" in asked[position][2].include for position in positions)
        field = asked[positions[0]][1].field
        try:
            found = codewell.catalog.open(name, f"{field}collection").search(
                [asked[position][1] for position in positions],
                vectors=vectors,
                min_seq=max(asked[position][2].min_seq for position in positions),
                wait_seconds=max(asked[position][2].wait_ms for position in positions) / 1000,
                deadline=deadline,
            )
        except OutOfTime as error:
            if not answers:
                raise
            found = [Answer([], None, error.left_out)] * len(positions)
        for position, answer in zip(positions, found, strict=True):
            answers[position] = AnswerOut.of(answer, asked[position][2])
    return [answers[position] for position in range(len(asked))]
