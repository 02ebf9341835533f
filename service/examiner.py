"""What one collection loses of the true neighbours, measured on its own live items. Writes nothing; knows no HTTP."""

import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from models import Codec, Codes, prepared, spread
from service.drift import (
    CODES,
    FEWEST_NEW,
    NEW,
    PAGE,
    PAGES,
    Drift,
    Freshness,
    Look,
    Shift,
    Spread,
    figures,
    query_figures,
)
from service.drift import compared as compared_drift
from service.errors import OriginalsDropped, TooFewItems
from service.filter import Filter
from service.follower import payload_codes
from service.index.segment import IndexKind
from service.losses import K, Losses, compared, sentence
from service.originals import Originals, decoded
from service.profile import Profile
from service.search import Stage
from service.searcher import Searcher
from service.store import payload
from service.store.tables import GenerationRow

FEWEST = 50
"""Items of which some can be asked for and ten others found."""
ASKED_SHARE = 5
"""One in so many is asked for, at most."""
BESIDE_SECONDS = 60
"""Between two looks at queries and all codes, of which nothing is decided."""


class Beside(NamedTuple):
    """What was seen beside the items, of which generation, and when."""

    generation_id: int
    at: float
    seq: int
    asked: int
    """Queries, of the process until then."""
    queries: Shift | None
    codes: Spread

    def is_due(self, seq: int, asked: int) -> bool:
        """Whether to look again, the log having come to `seq` and so many queries having been asked by now."""
        if self.asked < FEWEST_NEW <= asked:
            return True
        return (seq, asked) != (self.seq, self.asked) and time.monotonic() - self.at >= BESIDE_SECONDS


class Examiner(Searcher):
    """Thread-safe. What it answers comes from immutable views that follow the log."""

    _look: Look | None = None
    _beside: Beside | None = None

    def drift(self) -> Drift | None:
        """How far the newest items are from those that the published codec was certified on; none: unknown."""
        look = self.looked()
        return None if look is None else look.drift

    def looked(self) -> Look | None:
        """The last look at the drift of the newest items, and at queries and codes.

        Items are looked at anew after so many changes as say anything; none where nothing is published, or the vectors
        of new items are dropped.
        """
        with self._database.reading() as session:
            row = self._row(session)
            generation = None if row.generation_id is None else session.get(GenerationRow, row.generation_id)
            if generation is None or "drift" not in generation.certificate or self.originals is Originals.DROP:
                return None
            codec, seq = self.follower.codec(session, generation.id), row.seq
        with self._looking:  # one computes, and those that come meanwhile get what it found
            look, beside = self._look, self._beside
            if look is None or look.generation_id != generation.id or seq - look.seq >= FEWEST_NEW:
                self._look = look = Look(generation.id, seq, self._drifted(generation, codec))
            if beside is None or beside.generation_id != generation.id or beside.is_due(seq, self._recent.count):
                self._beside = beside = self._seen_beside(generation, codec, seq)
        return look._replace(drift=replace(look.drift, queries=beside.queries, codes=beside.codes))

    def _seen_beside(self, generation: GenerationRow, codec: Codec, seq: int) -> Beside:
        certified, count = generation.certificate["drift"], self._recent.count
        vectors, shift = self._recent.vectors(self.dim), None
        if len(vectors) >= FEWEST_NEW and len(known := self._known(generation, codec)):
            asked = query_figures(codec, prepared(vectors, self.metric), known)
            shift = compared_drift(certified.get("queries", certified), asked)
        view, now = self.follower.loaded, dict[str, float]()
        if view is not None and view.generation_id == generation.id and len(codes := view.some_codes(CODES)) > 1:
            now = spread(codec, codes)
        return Beside(generation.id, time.monotonic(), seq, count, shift, Spread(certified.get("spread", {}), now))

    def _known(self, generation: GenerationRow, codec: Codec) -> Codes:
        after = generation.certificate["drift"]["after_row"]
        with self._database.reading() as session:
            known = payload.some_codes(session, generation.id, after, PAGES, PAGE)
        return payload_codes(codec, list(known.values()))

    def _drifted(self, generation: GenerationRow, codec: Codec) -> Drift:
        certified, known = generation.certificate["drift"], self._known(generation, codec)
        with self._database.reading() as session:
            rows = payload.newest_rows(session, self.id, certified["after_row"], NEW)
            stored = payload.vectors_by_row(session, self.id, rows)
            codes = payload.codes_by_row(session, generation.id, rows)
        if len(rows) < FEWEST_NEW or not len(known):
            return Drift(Freshness.FRESH, len(rows), {})
        both = [row for row in rows if row in codes and row in stored]
        vectors = prepared(decoded([stored[row] for row in both], self.dim), self.metric)
        own = payload_codes(codec, [codes[row] for row in both])
        return Drift(*compared_drift(certified, figures(codec, vectors, own, known)))

    def losses(
        self, kind: IndexKind, wanted: Filter | None, queries: int, seconds: float, most_oversample: int
    ) -> dict[str, Any]:
        """Where a default search by the index loses neighbours, within about so many seconds.

        Items that the filter chooses are asked for, and looked for.

        Raises:
            NotTrained; TooFewItems; OriginalsDropped: true neighbours are not known any more.
        """
        began = time.monotonic()
        view = self._trained()
        if self.originals is Originals.DROP:
            raise OriginalsDropped("without the vectors nobody knows the true neighbours", field="collection")
        chosen = None
        if wanted is not None:
            view, aligned = self._aligned(view, filters=True)
            chosen = self._only(view, aligned, wanted, Profile())
        rows = (view if chosen is None else chosen).live_rows()
        if len(rows) < FEWEST:
            raise TooFewItems(f"{len(rows)} items are too few to lose any of; {FEWEST} is the least", field="filter")
        asked = rows[np.linspace(0, len(rows) - 1, min(queries, len(rows) // ASKED_SHARE)).astype(np.int64)]
        stored = self._originals(asked)
        vectors = prepared(decoded([stored[row] for row in asked.tolist() if row in stored], self.dim), self.metric)
        view = view.applied(view.applied_seq, rows[:0], np.empty((0, view.codec.code_bytes), np.uint8), asked)
        chosen = None if chosen is None else view.only(chosen.live_rows())
        oversample, scan, margin = self.follower.tuning(view.generation_id or 0)
        whole, within = compared(
            view, vectors, self._blocks(), chosen, K * oversample, began + seconds / 2, self._computing
        )
        if len(within.view) < K:
            raise TooFewItems(
                f"of the {len(whole.view)} oldest items, for which there was time, {len(within.view)} are within the "
                "filter; give it more seconds",
                field="seconds",
            )
        losses = Losses(whole, within, oversample, scan, margin, Stage.RESCORE, most_oversample)
        with self._computing:
            attributed = losses.attributed(kind)
        knobs = losses.knobs(kind, self._originals, began + seconds, self._computing)
        return {
            "collection": self.name,
            "generation": view.generation_id,
            "index": kind,
            "oversample": oversample,
            "scan": scan,
            "margin": margin,
            "stage": losses.stage,
            "queries": len(vectors),
            "items": len(whole.view),
            "items_chosen": len(within.view),
            "items_left_out": len(view) - len(whole.view),
            **attributed,
            "knobs": knobs,
            "sentence": sentence(knobs),
            "seconds": round(time.monotonic() - began, 3),
        }
