"""Where recall is lost: live items are asked for their true neighbours, and each stage is held against the one before.

Writes nothing; knows no SQL and no HTTP.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Neighbours, Vectors, estimated, farther, merged, recall
from service.index.exact import exact_search
from service.index.segment import IndexKind, RowArray
from service.index.view import View
from service.search import Originals, Plan, Stage, rescorable, search, shortlisted

K = 10
TIMED = 20
"""Searches that a setting's milliseconds are the median of."""
WIDER = (2, 5, 10)
"""Times that the oversample is raised by, as far as a search may ask, to see what that gives back;"""
MORE_PROBES = (2, 4)
"""and the buckets that are looked into."""

Blocks = Iterable[tuple[RowArray, Vectors]]
Turn = AbstractContextManager[object]
"""Held while there is much to compute: it is a search's place."""


@dataclass(frozen=True)
class Asked:
    """Live items as queries over a view without them: all of the items in it, or those that a filter chooses."""

    view: View
    vectors: Vectors
    """(q, D)"""
    truth: RowArray
    """(q, 10) true neighbours."""
    by_code: RowArray
    """(q, any) the nearest by the codec's own score of every code, best first."""

    def shares(self, plan: Plan) -> NDArray[np.float64]:
        """recall@10 of each query."""
        if plan.stage is Stage.RESCORE:
            found = rescorable(self.view, shortlisted(self.view, self.vectors, plan), plan)
        else:
            found = search(self.view, self.vectors, plan, lambda _: {}).rows
        return recall(found, self.truth)

    def by_codec(self, plan: Plan) -> NDArray[np.float64]:
        """recall@10 of each query, were the shortlist the best that the codec can make."""
        return recall(self.by_code[:, : K * plan.oversample if plan.stage is Stage.RESCORE else K], self.truth)

    def milliseconds(self, plan: Plan, originals: Originals, until: float) -> float:
        """Of the median search, one at a time; of fewer of them where the time is over."""
        took: list[float] = []
        for vector in self.vectors[:TIMED]:
            began = time.perf_counter()
            search(self.view, vector[None], plan, originals)
            took.append(1_000 * (time.perf_counter() - began))
            if time.monotonic() > until:
                break
        return float(np.median(took))


def compared(
    view: View, vectors: Vectors, blocks: Blocks, chosen: View | None, width: int, until: float, turn: Turn
) -> tuple[Asked, Asked]:
    """What is asked over the whole view, and over what a filter has chosen of it: the same where there is none.

    Blocks of originals are read up to a moment, one at least; views are cut down to the rows that came. `width` rows
    are kept by the codec's own score.
    """
    views = [view] if chosen is None else [view, chosen]
    exact, by_code = [list[Neighbours]() for _ in views], [list[Neighbours]() for _ in views]
    seen = [np.empty(0, np.int64)]
    for rows, originals in blocks:
        seen.append(rows)
        with turn:
            for place, part in enumerate(views):
                live = part.holds(rows)
                codes = view.codes_of(rows[live])
                decoded, queries = farther(view.codec.decode(codes), vectors, view.codec.errors(codes))
                exact[place].append(exact_search([(rows[live], originals[live])], vectors, K, view.codec.metric))
                by_code[place].append(exact_search([(rows[live], decoded)], queries, width, view.codec.metric))
        if time.monotonic() > until:
            break
    read = np.concatenate(seen)
    asked = [
        Asked(part.only(read), vectors, merged(exact[place], K).rows, merged(by_code[place], width).rows)
        for place, part in enumerate(views)
    ]
    return asked[0], asked[-1]


@dataclass(frozen=True)
class Losses:
    """What a default search loses and to what, and what each knob gives back."""

    whole: Asked
    chosen: Asked
    """Within the filter; `whole` without one."""
    oversample: int
    scan: float
    margin: float | None
    stage: Stage
    most_oversample: int

    def attributed(self, kind: IndexKind) -> dict[str, Any]:
        """The recall@10 of a default search by an index, and its losses, which add up to what is missing.

        codec: of neighbours that its own score of every code does not bring into the shortlist. shortlist: of those
        that it would bring there, and that the index does not, or whose originals the margin leaves out. filter: what
        more is lost within the filter than without.
        """
        plan = self._default(kind)
        ideal, real = self.whole.by_codec(plan), self.whole.shares(plan)
        within = real if self.chosen is self.whole else self.chosen.shares(plan)
        return {
            "recall@10": {name: round(value, 4) for name, value in estimated(within)._asdict().items()},
            "lost": {
                "codec": round(1 - float(ideal.mean()), 4),
                "shortlist": round(float(ideal.mean() - real.mean()), 4),
                "filter": round(float(real.mean() - within.mean()), 4),
            },
        }

    def knobs(self, kind: IndexKind, originals: Originals, until: float, turn: Turn) -> list[dict[str, Any]]:
        """The default search by an index and others, each with one knob turned: recall@10 and milliseconds.

        Those that the time is too short for are left out.
        """
        default, probes = self._default(kind), 0
        if kind is IndexKind.BUCKETS:
            with turn:
                looked = self.chosen.view.probed(self.chosen.vectors[:TIMED], K * self.oversample).probes
            probes = int(looked.mean())
        told: list[dict[str, Any]] = []
        for knob, plan in (("default", default), *self._turned(default, probes)):
            if told and time.monotonic() > until:
                break
            with turn:
                share = float(self.chosen.shares(plan).mean())
                took = self.chosen.milliseconds(plan, originals, until)
            first: Mapping[str, Any] = told[0] if told else {"recall@10": round(share, 4), "ms": round(took, 3)}
            told.append(
                {
                    "knob": knob,
                    "index": plan.kind,
                    "oversample": plan.oversample,
                    "scan": plan.scan,
                    "margin": plan.margin,
                    "probes": plan.probes,
                    "stage": plan.stage,
                    "recall@10": round(share, 4),
                    "ms": round(took, 3),
                    "gives_back": round(round(share, 4) - first["recall@10"], 4),
                    "costs_ms": round(round(took, 3) - first["ms"], 3),
                }
            )
        return told

    def _default(self, kind: IndexKind) -> Plan:
        return Plan(K, self.oversample, kind, self.stage, self.scan, self.margin)

    def _turned(self, plan: Plan, probes: int) -> Iterator[tuple[str, Plan]]:
        """`probes` are those of the plan, where they say anything."""
        for wider in sorted({min(plan.oversample * times, self.most_oversample) for times in WIDER}):
            if wider > plan.oversample:
                yield "oversample", replace(plan, oversample=wider, margin=None)  # as for whoever names one
        if plan.margin is not None:
            yield "margin", replace(plan, margin=None)
        for times in MORE_PROBES if probes else ():
            yield "probes", replace(plan, probes=times * probes)
        if plan.scan < 1:
            yield "scan", replace(plan, scan=1)
        other = IndexKind.BUCKETS if plan.kind is IndexKind.FAISS else IndexKind.FAISS
        yield "index", replace(plan, kind=other)
        if plan.stage is Stage.RESCORE:
            yield "stage", replace(plan, stage=Stage.REFINE)


def sentence(knobs: list[dict[str, Any]]) -> str:
    """Which knob gives back most a millisecond."""
    better = [one for one in knobs[1:] if one["gives_back"] > 0]
    if not better:
        return "No knob that was tried gives anything back."
    best = max(better, key=lambda one: one["gives_back"] / max(0.01, one["costs_ms"]))
    return (
        f"The {best['knob']} {best[best['knob']] or 'none'} gives back {best['gives_back']:.4f} of recall@10 "
        f"({knobs[0]['recall@10']:.4f} to {best['recall@10']:.4f}) at {best['costs_ms']:+.2f} ms a search."
    )
