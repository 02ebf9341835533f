"""A generation that is not published yet: coded, measured on held-out items, then published or refused.

Knows no training.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from models import Codec, spread
from service import drift
from service.certificate import certify, latency
from service.contract import ContractSpec
from service.errors import ContractBroken, TooFewItems
from service.index.segment import RowArray
from service.index.view import View
from service.originals import Originals
from service.questions import HeldOut, Questions
from service.search import Stage
from service.store import payload
from service.store.database import Database
from service.store.tables import GenerationRow
from service.swap import PAGE, GenerationState, Swap
from service.user_queries import user_queries

HELD_OUT, SHARE = 500, 20
"""Items set apart as queries of the certificate, or one in so many where there are few;"""
HELD_OUT_FOR_CONTRACT, SHARE_FOR_CONTRACT = 1_000, 5
"""more of them where a contract is to be kept, since the interval counts and half of them are tuned on."""


def held_out_of(count: int, contract: ContractSpec | None) -> int:
    """How many of so many items are to be queries."""
    if contract is not None and contract.recalls:
        return min(HELD_OUT_FOR_CONTRACT, count // SHARE_FOR_CONTRACT)
    return min(HELD_OUT, count // SHARE)


class Candidate:
    """One codec of one collection on its way to being published."""

    def __init__(
        self,
        database: Database,
        collection_id: int,
        swap: Swap,
        codec: Codec,
        held_out: HeldOut,
        contract: ContractSpec | None,
    ) -> None:
        self.codec = codec
        self._database = database
        self._collection_id = collection_id
        self._swap = swap
        self._held_out = held_out
        self._contract = contract
        self._last = 0
        """Rows up to it have codes."""
        generation = GenerationRow(
            collection_id=collection_id,
            state=GenerationState.BUILDING,
            codec=codec.to_bytes(),
            fingerprint=codec.fingerprint,
            certificate={},
            held_out=held_out.rows.astype("<i8").tobytes(),
            created_at=time.time(),
        )
        with database.writing() as session:
            row = swap.row(session, lock=True)
            session.add(generation)
            session.flush()
            self.id = generation.id
            self._originals_kept, self._dim = Originals(row.originals), row.dimension

    def encode(self, share: tuple[float, float]) -> None:
        """Makes the codes of the items that have none yet. `share` is where the job's progress begins and ends."""
        self._last = self._swap.encode(self.codec, self.id, self._last, share)

    def certified(self, most_oversample: int) -> dict[str, Any]:
        """What is measured of the codes.

        Raises:
            TooFewItems: they are gone.
        """
        rows, codes, last = [], [], 0
        while True:
            with self._database.reading() as session:
                page = payload.codes_after(session, self.id, last, PAGE)
            if not page:
                break
            rows.append(np.array([row for row, _ in page], np.int64))
            codes.append(np.frombuffer(b"".join(code for _, code in page), np.uint8).reshape(len(page), -1))
            last = page[-1][0]
        if not rows:
            raise TooFewItems("the items were deleted meanwhile", field="collection")
        view = View.of(self.id, self.codec, 0, np.concatenate(rows), np.concatenate(codes))
        # What came since the codes were made is in neither: it would be missed without being lost.
        blocks = ((kept[kept <= last], vectors[kept <= last]) for kept, vectors in self._swap.blocks())
        recalls = {} if self._contract is None else self._contract.recalls
        given = user_queries(self._database, self._collection_id, self._dim, self.codec.metric, recalls)
        asked = Questions.of(view, given or self._held_out, blocks)
        drops = self._originals_kept is Originals.DROP
        stages = (Stage.REFINE,) if drops else (Stage.REFINE, Stage.RESCORE)
        contract = self._contract
        least = {} if contract is None else contract.recalls
        certificate = certify(asked, len(view), stages, least, most_oversample)
        certificate |= latency(asked, certificate, self._originals)
        certificate["measured_by"] = "items" if given is None else "queries"
        certificate["drift"] = self._reference(last, view, given)
        certificate["disk_bytes"] = {
            "code": self.codec.code_bytes,
            "original": self._originals_kept.bytes_of(self._dim),
        }
        return certificate if contract is None else certificate | {"contract": contract.stored()}

    def publish(
        self,
        certificate: Mapping[str, Any],
        result: Mapping[str, Any],
        began: float,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        """Gives what came meanwhile its codes and swaps; `spec` is what the collection is to train from then on.

        Raises:
            ContractBroken: nothing was published; it has the `result` of a job that `began` then.
        """
        if self._contract is not None and (broken := self._contract.broken(certificate)):
            self._swap.refuse(self.id, certificate)
            remedies = "; or ".join(self._contract.remedies(certificate))
            raise ContractBroken(
                f"nothing was published: {'; '.join(broken)}. What could meet it: {remedies}",
                {**result, "seconds": round(time.monotonic() - began, 2)},
            )
        self.encode((0.97, 0.98))  # most of what came while measuring
        self._swap.publish(self.codec, self.id, self._last, GenerationState.BUILDING, certificate, spec)

    def _reference(self, last: int, view: View, given: HeldOut | None) -> dict[str, Any]:
        """What items that come after the row `last`, and queries, are held against; how the codes of the view are
        spread.
        """
        with self._database.reading() as session:
            known = payload.some_codes(session, self.id, last, drift.PAGES, drift.PAGE)
        others = [code for row, code in known.items() if row not in self._held_out.rows]
        codes = np.frombuffer(b"".join(others), np.uint8).reshape(len(others), -1)
        own = self.codec.encode(self._held_out.vectors)
        figures = drift.figures(self.codec, self._held_out.vectors, own, codes)
        figures |= {"after_row": last, "spread": spread(self.codec, view.some_codes(drift.CODES))}
        asked = None if given is None else drift.query_figures(self.codec, given.vectors, codes)
        return figures if asked is None else figures | {"queries": asked}

    def _originals(self, rows: RowArray) -> Mapping[int, bytes]:
        with self._database.reading() as session:
            return payload.vectors_by_row(session, self._collection_id, rows.tolist())
