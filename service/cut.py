"""A collection's codes cut to their first bytes. Runs in a job's own process; no item is encoded again."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sqlalchemy.orm import Session

from models import Codec, Metric, ResidualCodec, cut, cut_codes, described, load_codec, prepared
from service.admission import FEWEST_ITEMS
from service.candidate import Candidate, held_out_of
from service.certificate import encode_rate, versions
from service.codec_spec import spec_of
from service.contract import ContractSpec
from service.errors import TooFewItems
from service.originals import decoded
from service.questions import HeldOut
from service.store import payload
from service.store.database import Database
from service.store.tables import GenerationRow
from service.swap import PAGE, Fence, Page, Report, Swap

FEWEST_ASKED = 5
"""Items that the codec was not trained on, without which nothing can be said of it."""
FITTING = 10
"""Pages of items that the cut codec is fitted to: 50,000."""
INHERITED = ("trained_on", "training_seconds", "seed")
"""What a certificate says of the codec that the cut one is a part of."""


class Prefixes(Swap):
    """Codes are cut from another generation's, which has one of every item while it is published."""

    doing = "cutting"
    whole: Codec
    """The codec of that one."""

    def __init__(self, database: Database, collection_id: int, report: Report, fence: Fence, source: int) -> None:
        super().__init__(database, collection_id, report, fence)
        self._source = source

    def _pending(self, session: Session, generation_id: int, last: int) -> Page:
        del generation_id
        return payload.codes_after(session, self._source, last, PAGE)

    def _coded(self, codec: Codec, page: Page) -> Page:
        codes = np.frombuffer(b"".join(code for _, code in page), np.uint8).reshape(len(page), -1)
        first = cut_codes(self.whole, codes, codec)
        return [(row, code.tobytes()) for (row, _), code in zip(page, first, strict=True)]


class Cut:
    """The published generation's codes and codec, of which only the first bytes are kept: a generation of its own."""

    def __init__(
        self, database: Database, collection_id: int, parameters: Mapping[str, Any], report: Report, fence: Fence
    ) -> None:
        self._database = database
        self._id = collection_id
        self._source, self._size = int(parameters["generation"]), int(parameters["bytes"])
        self._report = report
        self._swap = Prefixes(database, collection_id, report, fence, self._source)

    def run(self, *, keep: int = 1, most_oversample: int = 100) -> dict[str, Any]:
        """Cuts, measures and publishes; returns what the job shows as its result.

        The codes keep the contract that the published ones were certified by, or the collection's.

        Raises:
            TooFewItems, CollectionNotFound, TrainingStopped, CodecError
            ContractBroken: the cut codes keep less than it asks for; nothing was published.
        """
        began = time.monotonic()
        with self._database.reading() as session:
            row = self._swap.row(session)
            published = session.get_one(GenerationRow, row.generation_id)
            certified, trains = dict(published.certificate), dict(row.codec)
            saved, asked = published.codec, certified.get("contract") or row.contract
        if published.id != self._source:  # the job was cut off after it had swapped
            self._swap.sweep(keep)
            return self._result(published.id, certified, began)
        contract = None if asked is None else ContractSpec.model_validate(asked)
        self._report(0.0, "reading codes")
        self._swap.sweep(keep)
        held_out = self._held_out(certified, contract)
        codec = self._codec(saved, held_out)
        candidate = Candidate(self._database, self._id, self._swap, codec, held_out, contract)
        candidate.encode((0.1, 0.5))
        self._report(0.5, "measuring recall")
        certificate = candidate.certified(most_oversample) | {
            **{name: certified[name] for name in INHERITED if name in certified},
            "encoded_per_second": encode_rate(codec, held_out.vectors),
            "codec": {"kind": codec.kind, **described(codec.config)},
            "cut_from": {"generation": self._source, "bytes": certified["code_bytes"], "codec": trains},
            "versions": versions(),
            "measured_at": time.time(),
        }
        result = self._result(candidate.id, certificate, began)
        self._report(0.97, "publishing")
        candidate.publish(certificate, result, began, spec_of(codec.config))
        self._swap.sweep(keep)
        self._database.reclaim()
        return self._result(candidate.id, certificate, began)

    def _codec(self, saved: bytes, held_out: HeldOut) -> ResidualCodec:
        """The published codec's first steps, fitted to some items, those that are held out apart."""
        whole = load_codec(saved)
        self._swap.whole = whole
        with self._database.reading() as session:
            last = payload.last_code(session, self._source)
            some = payload.some_codes(session, self._source, last, FITTING, PAGE)
        rows = [row for row in some if row not in held_out.rows]
        codes, latents = bytearray(), []
        for start in range(0, len(rows), PAGE):
            with self._database.reading() as session:
                stored = payload.vectors_by_row(session, self._id, rows[start : start + PAGE])
            codes += b"".join(some[row] for row in stored)
            latents.append(whole.latents(decoded(list(stored.values()), whole.dim)))
        if not codes:
            raise TooFewItems("the items were deleted meanwhile", field="collection")
        given = np.frombuffer(codes, np.uint8).reshape(-1, whole.code_bytes)
        codec = cut(whole, self._size, given, np.concatenate(latents))
        codec.threads, codec.device = torch.get_num_threads(), "auto"
        return codec

    def _held_out(self, certified: Mapping[str, Any], contract: ContractSpec | None) -> HeldOut:
        """Items that the codec was not trained on: those that it was measured by, and the newest where too few of them
        are left.
        """
        with self._database.reading() as session:
            count = payload.count_rows(session, self._id)
            if count < FEWEST_ITEMS:
                raise TooFewItems(f"the collection has {count} items; a cut needs {FEWEST_ITEMS}", field="collection")
            wanted = held_out_of(count, contract)
            known = session.get_one(GenerationRow, self._source).held_out or b""
            stored = payload.vectors_by_row(session, self._id, np.frombuffer(known, "<i8").tolist())
            if len(stored) < wanted:
                late = payload.newest_rows(session, self._id, certified["drift"]["after_row"], wanted - len(stored))
                stored |= payload.vectors_by_row(session, self._id, late)
            row = self._swap.row(session)
            dim, metric = row.dimension, Metric(row.metric)
        if len(stored) < FEWEST_ASKED:
            raise TooFewItems(
                f"{len(stored)} of the items that the codec was not trained on are left, and {FEWEST_ASKED} are needed "
                "to measure it by: train again, with as many bytes as wanted",
                field="collection",
            )
        rows = np.array(sorted(stored), np.int64)
        rows = rows[np.linspace(0, len(rows) - 1, min(wanted, len(rows))).astype(np.int64)]
        vectors = decoded([stored[one] for one in rows.tolist()], dim).copy()  # torch reads no buffers of bytes
        return HeldOut(rows, prepared(vectors, metric))

    def _result(self, generation_id: int, certificate: Mapping[str, Any], began: float) -> dict[str, Any]:
        return {
            "generation": generation_id,
            "before": self._source,
            "certificate": dict(certificate),
            "pictures": [],
            "seconds": round(time.monotonic() - began, 2),
        }
