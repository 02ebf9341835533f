"""POST /ingest, as JSON. Knows no database."""

from fastapi import APIRouter

from service.api import intake
from service.api.access import WRITE
from service.api.dependencies import CodewellDep, OnceDep
from service.api.large import LargeRoute
from service.api.ndjson import described
from service.api.schemas import IngestRequest, IngestResponse
from service.terms import Terms

router = APIRouter(tags=["ingest"], route_class=LargeRoute)

NDJSON_BODY = described('{"id": "a", "text": "a first text"}\n{"id": "b", "text": "a second text"}\n')


@router.post("/ingest", openapi_extra=NDJSON_BODY, dependencies=[WRITE])
def ingest(body: IngestRequest, codewell: CodewellDep, once: OnceDep) -> IngestResponse:
    """Inserts items, or replaces those whose id exists. The answer means that they are committed.

    Sent again with the same `Idempotency-Key` within a day, it gets the same answer and writes nothing.

    As `application/x-ndjson` with `?collection=` the same items come a line each, are committed batch by batch without
    holding the body in memory, and the answer's `results` lists only what was rejected, with its line.
    """
    items = intake.items(body, codewell.settings)
    receipt = codewell.catalog.ingest(body.collection, items, Terms(body.atomic, body.mode, once))
    return IngestResponse.of(receipt.checked())
