"""What a comparison says: its figures, who keeps more, and what was compared. Knows no training, terminal or page."""

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from service.compare.comparison import DEPTHS, Comparison, Failed, Measured, Split
from service.compare.verdict import Verdict


@dataclass
class Report:
    """Grows with each code that is measured."""

    name: str
    """Of the file compared on."""
    comparison: Comparison
    rows: list[Measured | Failed] = field(default_factory=list)

    @property
    def title(self) -> str:
        """A line."""
        return f"Codes of {self.comparison.size} bytes on {self.name}"

    @property
    def measured(self) -> list[Measured]:
        """The codes that were."""
        return [row for row in self.rows if isinstance(row, Measured)]

    @property
    def failed(self) -> list[Failed]:
        """The codes that could not be trained."""
        return [row for row in self.rows if isinstance(row, Failed)]

    @property
    def verdicts(self) -> list[Verdict]:
        """One a split, as far as both sides have a code."""
        found = (Verdict.of(self.measured, split) for split in Split)
        return [verdict for verdict in found if verdict is not None]

    @property
    def caveat(self) -> str | None:
        """Which codes the verdicts leave out, where there are some."""
        there = {row.candidate.name for row in self.measured}
        missing = [one.name for one in self.comparison.candidates if one.name not in there]
        return f"Not measured, so none of it is known: {', '.join(missing)}." if missing else None

    @property
    def taken(self) -> Measured | None:
        """The code that keeps most of late items, for items still come."""
        return max(self.measured, key=lambda row: row.recall[Split.LATE][10], default=None)

    @property
    def columns(self) -> list[str]:
        """Of `cells`."""
        recalls = [f"{split} @{k}" for split in Split for k in DEPTHS]
        return ["code", "bytes", "in all", *recalls, "train s", "encode s", "search ms"]

    @property
    def cells(self) -> list[list[str]]:
        """A row a code."""
        return [
            [
                row.candidate.name,
                str(row.code_bytes),
                f"{row.total_bytes:.1f}",
                *(f"{row.recall[split][k]:.3f}" for split in Split for k in DEPTHS),
                f"{row.train_seconds:.1f}",
                f"{row.encode_seconds:.2f}",
                f"{row.search_ms:.2f}",
            ]
            for row in self.measured
        ]

    @property
    def notes(self) -> list[str]:
        """What the figures mean."""
        sample, training = self.comparison.sample, self.comparison.training
        n, dim = sample.seen.shape
        return [
            f"{n:,} vectors of {dim} numbers were trained on, metric {self.comparison.metric}, seed {training.seed}, "
            f"{training.minutes:g} minutes a code at most; threads: {self.comparison.threads}.",
            f"late: {len(sample.queries):,} queries over the {len(sample.late):,} later rows, which no training saw; "
            f"trained: over {len(sample.trained):,} of those it did. @k: share of the true k among the first k by "
            "decoded vectors.",
            f"in all: bytes a vector with codebooks and networks, shared by these {n + len(sample.late):,} vectors. "
            f"encode s: of {len(sample.late) + len(sample.trained):,} vectors. search ms: a query to the index over "
            "them, on one thread.",
        ]

    def record(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        sample, training = self.comparison.sample, self.comparison.training
        counts = {name: len(part) for name, part in sample._asdict().items()}
        return {
            "vectors": self.name,
            "dimension": sample.seen.shape[1],
            "counts": counts,
            "metric": self.comparison.metric,
            "bytes": self.comparison.size,
            "minutes": training.minutes,
            "seed": training.seed,
            "threads": self.comparison.threads,
            "versions": {name: version(name) for name in ("codewell", "faiss-cpu", "torch")},
            "codes": [_recorded(row) for row in self.measured],
            "caveat": self.caveat,
            "failed": [{**asdict(row.candidate), "reason": row.reason} for row in self.failed],
            "verdicts": [
                {"split": one.split, "outcome": one.outcome, "interval": [one.low, one.high], "sentence": one.sentence}
                for one in self.verdicts
            ],
            "take": None if self.taken is None else self.taken.candidate.codec,
        }


def _recorded(row: Measured) -> dict[str, Any]:
    figures = {name: value for name, value in vars(row).items() if name not in ("candidate", "hits")}
    return {**asdict(row.candidate), **figures}
