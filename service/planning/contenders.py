"""Which codes a plan tries: few, of the sizes that matter. Knows no measurement."""

from collections.abc import Collection

from models import MOST_STEPS, factories
from service.compare.comparison import Candidate

LADDER = (4, 8, 16, 32, 64, 128)
"""Bytes of the codes that find out where the contract is within reach."""
MOST_BYTES = 256


def ladder(dim: int, max_bytes: int | None) -> list[int]:
    """Sizes of a code, ascending, up to what is allowed and to a byte for each number of a vector."""
    most = min(max_bytes or LADDER[-1], dim, MOST_BYTES)
    return [*(size for size in LADDER if size < most), most]


def scout(dim: int, size: int) -> Candidate:
    """A product quantiser: trained in seconds, and other codes keep not much less."""
    own = f"PQ{size}x8" if dim % size == 0 else f"PCA{dim // size * size},PQ{size}x8"
    return Candidate(f"FAISS {own}", {"kind": "faiss", "factory": own})


def grid(dim: int, size: int) -> Candidate:
    """Four bits of each of the leading principal axes: hardly any tables, so that more bytes of code may be fewer in
    all where items are few.
    """
    own = f"PCAR{min(dim, 2 * size)},SQ4"
    return Candidate(f"FAISS {own}", {"kind": "faiss", "factory": own})


def rivals(dim: int, size: int, other: int | None, kinds: Collection[str]) -> list[Candidate]:
    """Codes of `size` bytes at most, and of `other` those that keep most, the quickest to train first."""
    ours = [Candidate(f"Codewell {kind} {size}", {"kind": kind, "bytes": size}) for kind in ("binary", "dense")]
    theirs = [*_of(dim, size, "SQ8"), *_of(dim, size, "RaBitQ")]
    every = theirs + ours + (_best(dim, other) if other else []) + _best(dim, size)
    return [one for one in every if one.codec["kind"] in kinds]


def _best(dim: int, size: int) -> list[Candidate]:
    ours = [Candidate(f"Codewell residual {size}", {"kind": "residual", "bytes": size})] if size <= MOST_STEPS else []
    return [*_of(dim, size, "OPQ"), *_of(dim, size, "RQ"), *ours]


def _of(dim: int, size: int, what: str) -> list[Candidate]:
    """FAISS's first code of that make, where it has one of so many bytes."""
    names = [name for name in factories(dim, size) if name.startswith(what) or f",{what}" in name][:1]
    return [Candidate(f"FAISS {name}", {"kind": "faiss", "factory": name}) for name in names]
