"""Which snapshots were made of this database. Knows no folder and no view."""

from collections.abc import Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.store.tables import SnapshotRow


def known_snapshots(session: Session, collection_id: int) -> set[str]:
    """The digests of a collection's snapshots."""
    return set(session.scalars(select(SnapshotRow.digest).where(SnapshotRow.collection_id == collection_id)))


def add_snapshot(session: Session, collection_id: int, digest: str) -> None:
    """Makes a snapshot known; it may be so already."""
    session.merge(SnapshotRow(collection_id=collection_id, digest=digest))


def forget_snapshots(session: Session, collection_id: int, digests: Iterable[str]) -> None:
    """Makes snapshots unknown, which are no more."""
    gone = delete(SnapshotRow).where(SnapshotRow.collection_id == collection_id)
    session.execute(gone.where(SnapshotRow.digest.in_(list(digests))))
