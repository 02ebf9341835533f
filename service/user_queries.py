"""Queries of a collection's users, by which its codecs are measured. Knows no codec and no HTTP."""

from collections.abc import Mapping
from math import ceil

import numpy as np

from models import Metric, fewest_draws, prepared
from service.questions import HeldOut
from service.store import queries
from service.store.database import Database

FEWEST, MOST = 100, 1_000
"""By which a codec is measured, unless a contract needs more; fewer say too little of it."""
DIGITS = 4
"""To which two queries are the same one, where their mean length is 1: a text encoded twice differs by rounding."""


def fewest(least: Mapping[int, float]) -> int:
    """Queries that can certify recalls at k: one half, none of which misses a neighbour, must reach them."""
    return max([FEWEST, *(2 * ceil(fewest_draws(recall)) for recall in least.values())])


def user_queries(
    database: Database, collection_id: int, dim: int, metric: Metric, least: Mapping[int, float]
) -> HeldOut | None:
    """The newest that were given, and logged ones where these are too few; prepared, the newest first, no two of them
    the same. None where they are too few for recalls of `least` at k.
    """
    with database.reading() as session:
        stored = queries.newest(session, collection_id)
    vectors = prepared(np.frombuffer(b"".join(stored), "<f4").reshape(-1, dim).astype(np.float32), metric)
    if len(vectors) < (needed := fewest(least)):
        return None
    length = np.linalg.norm(vectors, axis=1).mean() or 1  # vectors that are not under cosine may be of any length
    _, first = np.unique(np.round(vectors / length, DIGITS), axis=0, return_index=True)
    if len(first) < needed:
        return None
    return HeldOut(np.empty(0, np.int64), vectors[np.sort(first)[: max(MOST, needed)]])
