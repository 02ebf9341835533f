"""POST /ingest as NDJSON: an item a line, committed batch by batch. The one async route; knows no database."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect

from service.api import intake
from service.api.access import WRITE, admitted
from service.api.dependencies import CodewellDep
from service.api.fields import Name
from service.api.limits import check_parts, check_size
from service.api.ndjson import NdjsonRoute
from service.api.schemas import Counts, Incoming, ItemOut, StreamResponse
from service.errors import CodewellError, InvalidInput, TooLarge
from service.item import Malformed, NewItem
from service.permitted import Permitted
from service.receipt import ItemStatus
from service.settings import Settings
from service.terms import Terms, WriteMode

log = logging.getLogger(__name__)

MOST_RESULTS = 1_000
"""Rejected lines that the answer lists; its counts are complete."""
BATCH_BYTES = 8 * 1024 * 1024
"""A batch is committed when its lines have this many bytes together, however few they are."""


ITEM: TypeAdapter[Incoming] = TypeAdapter(Incoming)


router = APIRouter(route_class=NdjsonRoute)


@router.post("/ingest", include_in_schema=False, response_model=StreamResponse, dependencies=[WRITE])
async def ingest_stream(
    request: Request,
    codewell: CodewellDep,
    collection: Name = "default",
    atomic: bool = False,
    mode: WriteMode = WriteMode.UPSERT,
) -> StreamResponse | Response:
    """Reads lines as they come; while a batch is committed nothing is read, so memory holds one batch."""
    if "idempotency-key" in request.headers:
        raise InvalidInput(
            "a stream is committed batch by batch, and so has no receipt that could be given again; leave the key out",
            field="Idempotency-Key",
        )
    if atomic:
        raise InvalidInput("a stream is committed batch by batch and cannot be atomic", field="atomic")
    stream = _Stream(codewell, collection, Terms(mode=mode))
    try:
        async for batch in _batches(request, codewell):
            await asyncio.to_thread(admitted, request.scope)  # a stream may go on for hours after its key was revoked
            await asyncio.to_thread(stream.commit, batch)
    except ClientDisconnect:
        log.info("a stream to %s ended early; %s lines are committed", collection, stream.committed_through_line)
        return Response(status_code=400)  # nobody is there to read it
    except CodewellError as error:
        error.members["committed_through_line"] = stream.committed_through_line
        raise
    return stream.response()


async def _batches(request: Request, codewell: Permitted) -> AsyncIterator[list[bytes]]:
    """Complete lines in batches; a last line needs no newline."""
    settings = codewell.settings
    lines: list[bytes] = []
    pieces: list[bytes] = []
    """Of the line that is not complete yet: joined once, for a line may come in thousands of chunks."""
    pending, size = 0, 0
    async for chunk in request.stream():
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            line = b"".join((*pieces, part))
            pieces, pending = [], 0
            if len(line) > settings.max_body_bytes:
                raise _too_long(settings)
            lines.append(line)
            size += len(line)
            if len(lines) >= settings.stream_batch or size >= BATCH_BYTES:
                yield lines
                lines, size = [], 0
        pieces.append(rest)
        pending += len(rest)
        if pending > settings.max_body_bytes:
            raise _too_long(settings)
    if pending:
        lines.append(b"".join(pieces))
    if lines:
        yield lines


def _too_long(settings: Settings) -> TooLarge:
    return TooLarge(
        f"a line is longer than {settings.max_body_bytes} bytes; CODEWELL_MAX_BODY_BYTES raises it", field="line"
    )


class _Stream:
    """What has come of a stream so far."""

    def __init__(self, codewell: Permitted, name: str, terms: Terms) -> None:
        self._codewell = codewell
        self._terms = terms
        self._name = name
        self._seq = 0
        self._counts = dict.fromkeys(ItemStatus, 0)
        self._results: list[ItemOut] = []
        self._shortened = 0
        self.committed_through_line = 0

    def commit(self, lines: list[bytes]) -> None:
        """Takes the next lines in; blank ones count as lines and are nothing else."""
        batch: dict[int, NewItem | Malformed] = {}
        ids: set[str] = set()
        for number, line in enumerate(lines, self.committed_through_line + 1):
            if not line.strip():
                continue
            item = self._item(line)
            if isinstance(item, NewItem):
                if item.id in ids:  # of two lines with one id the later one holds, as it would in two batches
                    self._ingest(batch)
                    self.committed_through_line = number - 1
                    batch, ids = {}, set()
                ids.add(item.id)
            batch[number] = item
        self._ingest(batch)
        self.committed_through_line = number

    def _item(self, line: bytes) -> NewItem | Malformed:
        try:
            check_parts(line, self._codewell.settings, "items[0]")
            read = json.loads(line)
            check_size(read, self._codewell.settings, "items[0]")
            given = ITEM.validate_python(read)
        except InvalidInput as error:
            return Malformed(None, error)
        except (ValueError, RecursionError) as error:
            return Malformed(None, InvalidInput(f"the line is not JSON: {error}", field="items[0]"))
        return intake.item(given, "items[0]", self._codewell.settings)

    def _ingest(self, batch: dict[int, NewItem | Malformed]) -> None:
        if not batch:
            return
        items = list(batch.values())
        receipt = self._codewell.catalog.ingest(self._name, items, self._terms)
        self._seq = receipt.seq or self._seq
        for number, result in zip(batch, receipt.results, strict=True):
            self._counts[result.status] += 1
            self._shortened += result.warning is not None
            if result.status is ItemStatus.REJECTED and len(self._results) < MOST_RESULTS:
                self._results.append(ItemOut.of(result, line=number))

    def response(self) -> StreamResponse:
        """The answer at the end of the stream."""
        if not any(self._counts.values()):
            raise InvalidInput("the stream has no line with an item", field="body")
        return StreamResponse(
            collection=self._name,
            seq=self._seq,
            counts=Counts(**{status.value: count for status, count in self._counts.items()}),
            results=self._results,
            shortened=self._shortened,
            committed_through_line=self.committed_through_line,
        )
