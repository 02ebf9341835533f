"""Who keeps more neighbours, said plainly. Knows no training and no table."""

from collections.abc import Sequence
from dataclasses import dataclass

from models import interval
from service.compare.comparison import K, Measured, Split


@dataclass(frozen=True)
class Verdict:
    """The best of Codewell's codes against the best of FAISS's, by recall@10 of one split."""

    split: Split
    ours: Measured
    theirs: Measured
    low: float
    """Where ours less theirs lies with 95%, by bootstrap over the queries: from here"""
    high: float
    """to here."""

    @classmethod
    def of(cls, rows: Sequence[Measured], split: Split) -> "Verdict | None":
        """None where one side has no code."""
        ours, theirs = ([row for row in rows if row.candidate.is_ours is is_ours] for is_ours in (True, False))
        if not ours or not theirs:
            return None
        best, other = (max(side, key=lambda row: row.recall[split][K]) for side in (ours, theirs))
        return cls(split, best, other, *interval(best.hits[split] - other.hits[split]))

    @property
    def outcome(self) -> str:
        """Codewell "wins", "loses", or it is "level": the interval has both signs."""
        return "wins" if self.low > 0 else "loses" if self.high < 0 else "level"

    @property
    def sentence(self) -> str:
        """For people."""
        ours, theirs = self.ours.recall[self.split][K], self.theirs.recall[self.split][K]
        said = {
            "wins": "Codewell keeps more",
            "loses": "Codewell loses",
            "level": "Codewell and FAISS are level",
        }[self.outcome]
        return (
            f"On {self.split} items {said}: recall@{K} {ours:.3f} by {self.ours.candidate.name}, {theirs:.3f} by "
            f"{self.theirs.candidate.name} (difference {ours - theirs:+.3f}, 95%: {self.low:+.3f} to {self.high:+.3f})."
        )
