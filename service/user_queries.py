"""Queries of a collection's users, by which its codecs are measured. Knows no codec and no HTTP."""

import numpy as np

from models import Metric, prepared
from service.questions import HeldOut
from service.store import queries
from service.store.database import Database

FEWEST, MOST = 100, 1_000
"""By which a codec is measured; fewer say too little of it."""


def user_queries(database: Database, collection_id: int, dim: int, metric: Metric) -> HeldOut | None:
    """The newest that were given or logged, prepared, no two of them equal; none where they are too few."""
    with database.reading() as session:
        stored = queries.newest(session, collection_id, MOST)
    if len(stored) < FEWEST:
        return None
    vectors = np.frombuffer(b"".join(stored), "<f4").reshape(-1, dim).astype(np.float32)
    return HeldOut(np.empty(0, np.int64), prepared(vectors, metric))
