"""The three stages of a search over one view: shortlist, refine, rescore. Knows no SQL, no HTTP and no text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from models import FlatCodec, Neighbours, Scores, Vectors, paired_scores, top
from service.deadline import Deadline
from service.index.segment import IndexKind, RowArray
from service.index.view import View
from service.originals import decoded
from service.profile import Profile

BLOCK_NUMBERS = 4_000_000
"""Numbers of candidates' vectors held at once, 16 MB: queries are refined and rescored in blocks of as many as fit."""

QUERY_BLOCK = 512
"""Queries looked up between two looks at the time."""

OVERSAMPLE = 10
"""Where nobody asks for another."""

Originals = Callable[[RowArray], Mapping[int, bytes]]
"""Reads the stored vectors of rows, leaving out those that are gone."""


class Stage(StrEnum):
    """Where a search stops."""

    SHORTLIST = "shortlist"
    """The index's own order of the codes."""
    REFINE = "refine"
    """The codec's score of the shortlist's codes."""
    RESCORE = "rescore"
    """Exact scores of the shortlist's original vectors."""


@dataclass(frozen=True)
class Plan:
    """How a search is done; queries with equal plans are searched together."""

    k: int
    oversample: int
    """The shortlist has k * oversample rows: that many originals are read."""
    kind: IndexKind
    stage: Stage | None
    """None for the last one, rescore, where originals are kept."""
    scan: float = 1
    """Share of the codes that FAISS looks at where they stand in lists; 0 for what they were tuned to."""
    margin: float | None = None
    """Originals are read of rows whose codes' scores are no farther than this below the k-th; None: of all shortlisted.
    It holds where a shortlist has the codec's own scores."""
    probes: int | None = None
    """Hash buckets that are looked into; none for as many as hold a tenth of the codes."""


class Probed(NamedTuple):
    """How far the buckets were looked into for a query."""

    tables: int
    probes: int
    candidates: int
    """Codes scored."""
    radius: int | None
    """Every code of which any table's address is within so many bits of the query's was scored; none where not even all
    that share one were, and where addresses are no strings of bits."""


def search(
    view: View,
    queries: Vectors,
    plan: Plan,
    originals: Originals,
    profile: Profile | None = None,
    also: RowArray | None = None,
    deadline: Deadline | None = None,
    probed: list[Probed] | None = None,
) -> Neighbours:
    """(q, D) queries to the k best rows of each, best first, ties by older row; -1 where there are no more.

    After the deadline no original is read, and no further block of queries is begun; the first one always is.

    With `also`, (q, a) live rows, or -1, that something else found, the k + a best are told: all of these among them.
    Their order is that of the last stage, which must not be the shortlist's. To `probed` is added how far the buckets
    were looked into for each query, where the plan is to.
    """
    profile, deadline = profile or Profile(), deadline or Deadline()
    # Uncompressed codes are the originals: a second look at a few more than k replaces reading them.
    flat = isinstance(view.codec, FlatCodec)
    wanted = plan.k * (2 if flat else plan.oversample)
    with profile.stage("shortlist"):
        shortlist, looked = _shortlist(view, queries, wanted, plan, deadline)
    if plan.kind is IndexKind.BUCKETS:
        profile.count("buckets", sum(one.probes for one in looked))
        codes = sum(one.candidates for one in looked)
        (probed if probed is not None else []).extend(looked)
    else:
        codes = len(queries) * view.most_scored(wanted, plan.kind, plan.scan)
    profile.count("codes", codes)
    profile.count("bytes", codes * view.codec.code_bytes)
    profile.count("shortlist", int((shortlist.rows >= 0).sum()))
    if plan.stage is Stage.SHORTLIST:
        return top(shortlist.scores, shortlist.rows, plan.k)
    by_codes = flat or plan.stage is Stage.REFINE
    if by_codes and view.scored and also is None:
        return top(shortlist.scores, shortlist.rows, plan.k)
    near = shortlist.rows if by_codes else rescorable(view, shortlist, plan)
    rows, k = (near, plan.k) if also is None else (joined(near, also), plan.k + also.shape[1])
    with profile.stage("refine" if by_codes else "rescore"):
        return reordered(view, queries, rows, k, None if by_codes else originals, profile, deadline)


def shortlisted(view: View, queries: Vectors, plan: Plan, more: int = 0) -> Neighbours:
    """(q, D) queries to all that a search by the plan chooses from: its (q, k * oversample + more) shortlist."""
    return _shortlist(view, queries, plan.k * plan.oversample + more, plan, Deadline())[0]


def _shortlist(
    view: View, queries: Vectors, wanted: int, plan: Plan, deadline: Deadline
) -> tuple[Neighbours, list[Probed]]:
    parts: list[Neighbours] = []
    probed: list[Probed] = []
    for start in range(0, len(queries), QUERY_BLOCK):
        if start and deadline.over:
            shape = len(queries) - start, parts[0].rows.shape[1]
            parts.append(Neighbours(np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)))
            deadline.cut(range(start, len(queries)), "it was not looked for")
            break
        block = queries[start : start + QUERY_BLOCK]
        if plan.kind is not IndexKind.BUCKETS:
            parts.append(view.search(block, wanted, plan.kind, plan.scan))
            continue
        look = view.probed(block, wanted, plan.probes, lambda: deadline.over)
        parts.append(look.neighbours)
        for place in np.flatnonzero(look.cut).tolist():
            read = int(look.probes[place])
            told = f"{read} buckets were looked into until then" if read else "it was not looked for"
            deadline.cut([start + place], told)
        figures = zip(look.probes.tolist(), look.candidates.tolist(), look.radius.tolist(), strict=True)
        probed.extend(
            Probed(look.tables, probes, scored, None if radius < 0 else radius) for probes, scored, radius in figures
        )
    return _stacked(parts), probed


def refined(view: View, queries: Vectors, shortlist: Neighbours, k: int) -> Neighbours:
    """(q, D) queries to the k best of their (q, m) shortlist by the codec's own score, which needs no original."""
    if view.scored:
        return top(shortlist.scores, shortlist.rows, k)
    return reordered(view, queries, shortlist.rows, k, None, Profile(), Deadline())


def rescorable(view: View, shortlist: Neighbours, plan: Plan) -> RowArray:
    """(q, n) to the (q, m) rows whose originals are read, -1 in place of those of others."""
    if plan.margin is None or not view.scored:
        return shortlist.rows
    last = min(plan.k, shortlist.scores.shape[1]) - 1
    near = shortlist.scores >= shortlist.scores[:, last, None] - np.float32(plan.margin)
    # Scores fall along a shortlist: those that are near come first.
    return np.where(near, shortlist.rows, -1)[:, : int(near.sum(axis=1).max(initial=0))]


def joined(rows: RowArray, also: RowArray) -> RowArray:
    """(q, n) and (q, a) rows to (q, n + a), without those of the second that are in the first: -1 stands for them."""
    new = [np.where(np.isin(second, first), -1, second) for first, second in zip(rows, also, strict=True)]
    return np.hstack([rows, np.stack(new)])


def reordered(
    view: View,
    queries: Vectors,
    shortlist: RowArray,
    k: int,
    originals: Originals | None,
    profile: Profile,
    deadline: Deadline,
) -> Neighbours:
    """(q, D) queries to the k best of their (q, n) rows by exact scores or, without originals, by the codec's."""
    parts = []
    size = max(1, BLOCK_NUMBERS // (shortlist.shape[1] * view.codec.dim))
    for start in range(0, len(queries), size):
        block, rows = queries[start : start + size], shortlist[start : start + size]
        if originals is not None and deadline.over:
            originals = None
            deadline.cut(range(start, len(queries)), "hits are ranked by their codes, not by their original vectors")
        scores = view.scores(block, rows) if originals is None else _rescored(view, block, rows, originals, profile)
        best = top(scores, rows, k)
        parts.append(Neighbours(np.where(np.isneginf(best.scores), -1, best.rows), best.scores))
    return _stacked(parts)


def _stacked(parts: Sequence[Neighbours]) -> Neighbours:
    return Neighbours(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))


def _rescored(view: View, queries: Vectors, rows: RowArray, originals: Originals, profile: Profile) -> Scores:
    wanted, where = np.unique(rows, return_inverse=True)
    with profile.stage("originals"):
        stored = originals(wanted[wanted >= 0])
    profile.count("originals", len(stored))
    profile.count("bytes", sum(map(len, stored.values())))
    vectors = np.zeros((len(wanted), view.codec.dim), np.float32)
    found = np.zeros(len(wanted), np.bool_)
    if stored:
        places = np.searchsorted(wanted, np.fromiter(stored, np.int64, len(stored)))
        vectors[places] = decoded(list(stored.values()), view.codec.dim)
        found[places] = True
    where = where.reshape(rows.shape)
    scores = paired_scores(queries, vectors[where], view.codec.metric)
    return np.where(found[where], scores, -np.inf).astype(np.float32)
