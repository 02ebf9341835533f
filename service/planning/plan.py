"""The measured frontier of codes, and the cheapest that meets what was asked. Knows no SQL, no file and no terminal."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models import CodecError, Estimate
from service.compare.comparison import Candidate, Failed
from service.planning.contenders import grid, ladder, rivals, scout
from service.planning.point import K, Point, Trial, measured
from service.planning.wish import PlanSpec
from service.search import Stage

FORESEEN = 100
"""Times the planned size up to which is said which code will be the cheapest."""
Report = Callable[[float, str], None]
"""The share that is done, at least, and what is being done; raises TrainingStopped to end the plan."""


@dataclass
class Plan:
    """Grows with each code that is measured."""

    wish: PlanSpec
    trial: Trial
    minutes: float
    points: list[Point] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def run(self, report: Report) -> None:
        """Finds the size that the contract needs by codes that are trained in seconds, then tries the others of it.

        What is not trained when the minutes are over is named with the reason.
        """
        dim = self.trial.searched.shape[1]
        sizes = ladder(dim, self.wish.max_bytes)
        began, number = time.monotonic(), len(sizes) - 1
        if "faiss" in self.wish.kinds:
            if self.trial.least:
                number = self._scouted([scout(dim, size) for size in sizes], began, report)
            self._scouted([grid(dim, size) for size in sizes[number:]], began, report)
        beside = [*sizes[:number][-1:], *sizes[number + 1 :]]  # a step smaller; where there is none, a step larger
        waiting = rivals(dim, sizes[number], next(iter(beside), None), self.wish.kinds)
        for left, candidate in zip(range(len(waiting), 0, -1), waiting, strict=True):
            self._try(candidate, left, began, report)

    def _scouted(self, candidates: list[Candidate], began: float, report: Report) -> int:
        """Tries one after the other up to the first that meets everything; its place, or the last."""
        for place, candidate in enumerate(candidates):
            known = len(self.points)
            self._try(candidate, len(candidates) - place, began, report)
            if len(self.points) > known and not self.missing(self.points[-1]):
                break
        return place

    def _try(self, candidate: Candidate, left: int, began: float, report: Report) -> None:
        """With a fair share of the time that is left."""
        remaining = self.minutes - (time.monotonic() - began) / 60
        name = candidate.name
        if remaining <= 0:
            self.failed.append(Failed(candidate, f"the {self.minutes:g} minutes were over"))
            return
        done = min(0.99, 1 - remaining / self.minutes)
        report(done, f"measuring {name}")
        try:
            self.points.append(
                measured(
                    candidate,
                    self.trial,
                    max(1e-4, round(remaining / left, 4)),
                    lambda _, __: report(done, f"measuring {name}"),
                )
            )
        except CodecError as error:
            self.failed.append(Failed(candidate, str(error)))

    # what it says

    def missing(self, point: Point) -> list[str]:
        """What a code does not meet of contract and budgets."""
        said = self._broken(point)
        if self.wish.max_bytes is not None and point.code_bytes > self.wish.max_bytes:
            said.append(f"{point.code_bytes} bytes of code of {self.wish.max_bytes}")
        budgets = self.wish.budgets
        if budgets is None:
            return said
        ram_mb = point.total_bytes * self.trial.items / 1e6
        for name, cost, most in (
            ("bytes in all", point.total_bytes, budgets.total_bytes),
            ("MB of RAM", ram_mb, budgets.ram_mb),
            ("ms a search", point.latency_ms_at_size, budgets.latency_ms),
        ):
            if most is not None and (cost is None or cost > most):
                said.append(f"{'unknown' if cost is None else f'{cost:,.1f}'} {name} of {most:g}")
        return said

    def _broken(self, point: Point) -> list[str]:
        return [
            f"recall@{k} is {point.certified[k].value:.3f}, {point.certified[k].low:.3f} at the lower end of its "
            f"interval, of {least:g}"
            for k, least in self.trial.least.items()
            if point.certified[k].low < least
        ]

    def best(self, points: Sequence[Point]) -> Point | None:
        """The cheapest that meets everything; where no recall was asked for, the one that keeps most."""
        fit = [point for point in points if not self.missing(point)]
        if self.trial.least:
            return min(fit, key=_by_cost, default=None)
        return max(fit, key=lambda point: (point.recall.value, -point.total_bytes), default=None)

    @property
    def taken(self) -> Point | None:
        """The best that a collection can have."""
        return self.best([point for point in self.points if point.candidate.is_offered])

    @property
    def order(self) -> list[Point]:
        """What a collection can have and meets everything, the best first; the one nearest to it where none does."""
        offered = [point for point in self.points if point.candidate.is_offered]
        fit = [point for point in offered if not self.missing(point)]
        if fit and self.trial.least:
            return sorted(fit, key=_by_cost)
        return sorted(fit or offered, key=lambda point: (-point.recall.value, point.total_bytes))[: None if fit else 1]

    @property
    def frontier(self) -> list[Point]:
        """The codes than which no other takes fewer bytes in all and keeps as much, smallest first."""
        kept, most = list[Point](), -1.0
        for point in sorted(self.points, key=lambda one: (one.total_bytes, -self._kept(one).value)):
            if self._kept(point).value > most:
                kept.append(point)
                most = self._kept(point).value
        return kept

    def _kept(self, point: Point) -> Estimate:
        return point.rescored if self.trial.stage is Stage.RESCORE else point.codes_only

    @property
    def sentences(self) -> list[str]:
        """For people: what to take, and who wins."""
        taken, every = self.taken, self.best(self.points)
        wanted = " and ".join(f"recall@{k} of {least:g}" for k, least in self.trial.least.items()) or "the budgets"
        if taken is None:
            near, remedies = self.order, self._remedies()
            within = " within the costs" if self._costs and self.trial.least else ""
            said = [f"No code that was tried meets {wanted}{within}."]
            said += [f"The nearest is {self._told(near[0])}: {'; '.join(self.missing(near[0]))}."] if near else []
            said += [f"What could meet it: {'; or '.join(remedies)}."] if remedies else []
        else:
            ours, theirs = (
                self.best([point for point in self.points if point.candidate.is_ours is is_ours])
                for is_ours in (True, False)
            )
            what = "Cheapest that meets" if self.trial.least else "Most neighbours within"
            said = [f"{what} {wanted}: {self._told(taken)}.", self._winner(ours, theirs), *self._foreseen(taken)]
        if every is not None and every is not taken:
            said.append(f"{every.candidate.name} would do better, but a collection cannot take it.")
        if self.failed:
            said.append(
                f"Not measured, so none of it is known: {', '.join(one.candidate.name for one in self.failed)}."
            )
        return said

    @property
    def _costs(self) -> bool:
        """Whether they are bounded."""
        return self.wish.max_bytes is not None or self.wish.budgets is not None

    def _remedies(self) -> list[str]:
        """What was given to the plan and leaves codes out."""
        reads = self.trial.stage is Stage.RESCORE
        originals = f"an oversample above {self.trial.most_oversample}" if reads else "searches that read originals"
        return [
            *(["higher costs"] if self._costs else []),
            *([originals] if self.trial.least else []),
            *([f"more than {self.minutes:g} minutes, for codes that were not measured"] if self.failed else []),
        ]

    def _winner(self, ours: Point | None, theirs: Point | None) -> str:
        if ours is None or theirs is None:
            winner, loser = ("Codewell", "FAISS's") if theirs is None else ("FAISS", "Codewell's")
            if not any(point.candidate.is_ours is (ours is None) for point in self.points):
                return f"None of {loser} codes was measured."
            return f"{winner} wins: none of {loser} codes that were tried meets it."
        if self.trial.least and ours.cost == theirs.cost:
            return f"Codewell and FAISS are level: {ours.candidate.name} and {theirs.candidate.name} cost the same."
        winner, other = ("Codewell", theirs) if self.best([ours, theirs]) is ours else ("FAISS", ours)
        return f"{winner} wins: the other side's best is {self._told(other)}."

    def _foreseen(self, taken: Point) -> list[str]:
        """Which code takes over first as more items share tables and codec."""
        items = self.trial.items
        takeovers = [
            ((other.shared_bytes - taken.shared_bytes) / saved, other.candidate.name)
            for other in (self.order if self.trial.least else [])
            if (saved := taken.vector_bytes(items) - other.vector_bytes(items)) > 0
        ]
        later = [(count, name) for count, name in takeovers if items < count < FORESEEN * items]
        return [
            "Tables and codec weigh less the more items share them: from about "
            f"{float(f'{count:.2g}'):,.0f} on, {name} takes fewer bytes in all; what it keeps of so many is not "
            "measured here."
            for count, name in sorted(later)[:1]
        ]

    def _told(self, point: Point) -> str:
        read = f"{K * point.setting.oversample} originals read" if self.trial.stage is Stage.RESCORE else "codes alone"
        return (
            f"{point.candidate.name}, {point.total_bytes:,.1f} bytes a vector in all ({point.code_bytes} of code), "
            f"recall@{min(point.certified, key=lambda k: abs(k - K))} {point.recall.value:.3f} (95%: "
            f"{point.recall.low:.3f} to {point.recall.high:.3f}) by {read}"
        )

    def record(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        trial, frontier, taken = self.trial, self.frontier, self.taken
        counts = {name: len(part) for name, part in trial.sample._asdict().items() if name != "trained"}
        return {
            "asked": self.wish.stored(),
            "recalls": {f"recall@{k}": least for k, least in trial.least.items()},
            "stage": trial.stage,
            "items": trial.items,
            "counts": counts,
            "minutes": self.minutes,
            "take": None if taken is None else {"codec": taken.candidate.codec, "oversample": taken.setting.oversample},
            "order": [point.candidate.codec for point in self.order],
            "sentences": self.sentences,
            "codes": [self._recorded(point, point in frontier) for point in self.points],
            "failed": [{"name": one.candidate.name, "reason": one.reason} for one in self.failed],
        }

    def _recorded(self, point: Point, is_frontier: bool) -> dict[str, Any]:
        return {
            "name": point.candidate.name,
            "codec": point.candidate.codec if point.candidate.is_offered else None,
            "code_bytes": point.code_bytes,
            "total_bytes": round(point.total_bytes, 2),
            "recall@10": {"codes": _rounded(point.codes_only), "rescored": _rounded(point.rescored)},
            "late_recall@10": round(point.late, 4),
            "oversample": None if self._broken(point) else point.setting.oversample,
            "certified": {f"recall@{k}": _rounded(one) for k, one in point.certified.items()},
            "missing": self.missing(point),
            "frontier": is_frontier,
            "latency_ms": None if point.latency_ms is None else round(point.latency_ms, 3),
            "latency_ms_at_size": None if point.latency_ms_at_size is None else round(point.latency_ms_at_size, 3),
            "training_seconds": round(point.training_seconds, 2),
            "encoded_per_second": round(point.encoded_per_second),
        }


def _by_cost(point: Point) -> tuple[float, float, float]:
    return *point.cost, -point.recall.value


def _rounded(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, 4) for name, value in estimate._asdict().items()}
