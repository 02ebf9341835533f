"""The statements over API keys. Knows no secret and no HTTP."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, exists, select, update
from sqlalchemy.orm import Session

from service.store.bulk import Reads
from service.store.tables import KeyRow


class StoredKey(NamedTuple):
    """What a request's key is compared with, and what it allows."""

    id: str
    digest: bytes
    scope: str
    collections: list[str] | None
    expires_at: float | None
    revoked_at: float | None
    rate: float | None
    max_items: int | None
    max_bytes: int | None


SOME_KEY = select(KeyRow.id).limit(1)
ONE_KEY = select(*(getattr(KeyRow, name) for name in StoredKey._fields)).where(KeyRow.id == bindparam("id"))


def find_key(database: Reads, key_id: str) -> StoredKey | None:
    """The key of that id."""
    return next((StoredKey(*row) for row in database.execute(ONE_KEY, {"id": key_id})), None)


def has_keys(database: Reads) -> bool:
    """Whether a key was ever made: rows stay."""
    return any(True for _ in database.execute(SOME_KEY, {}))


def list_keys(session: Session) -> Sequence[KeyRow]:
    """All, the oldest first."""
    return session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id)).all()


def revoke_key(session: Session, key_id: str, now: float) -> bool:
    """Revokes a key, or leaves it as it was revoked; whether there is one."""
    session.execute(update(KeyRow).where(KeyRow.id == key_id, KeyRow.revoked_at.is_(None)).values(revoked_at=now))
    return bool(session.scalar(select(exists().where(KeyRow.id == key_id))))
