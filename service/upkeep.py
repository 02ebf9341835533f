"""Keeps the database from growing with every change ever made. Knows no view, no job and no HTTP."""

from sqlalchemy import select

from service.store import store
from service.store.database import Database
from service.store.tables import CollectionRow

FEWEST_CHANGES = 50_000
"""The log keeps this many entries, or as many as a quarter of the rows: a view farther behind is read anew sooner."""
FREE_SHARE = 0.25
"""Of SQLite's file that is left free, for what is written next."""
PAGE = 5_000


def purge_logs(database: Database, fewest: int = FEWEST_CHANGES) -> int:
    """Cuts logs that are more than twice as long as they are to be, and gives back the disk that is free; how many."""
    with database.reading() as session:
        rows = session.execute(
            select(CollectionRow.id, CollectionRow.seq - CollectionRow.floor_seq, CollectionRow.row_count)
        )
        keeps = {collection_id: (length, max(fewest, kept // 4)) for collection_id, length, kept in rows}
    long = {collection_id: keep for collection_id, (length, keep) in keeps.items() if length > 2 * keep}
    for collection_id, keep in long.items():
        cutting = True
        while cutting:
            with database.writing() as session:
                row = store.lock_collection(session, collection_id)
                cutting = row is not None and store.purge_changes(session, row, keep, PAGE)
    if long or database.free_share() > FREE_SHARE:
        database.reclaim()
    return len(long)
