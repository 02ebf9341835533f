"""What requests with an idempotency key were answered. Knows no items."""

from sqlalchemy import delete
from sqlalchemy.orm import Session

from service.errors import KeyReused
from service.store.tables import ReceiptRow
from service.terms import OnceKey

RECEIPT_SECONDS = 24 * 60 * 60
"""How long a request may be sent again by its idempotency key."""


def kept_receipt(session: Session, collection_id: int, once: OnceKey) -> str | None:
    """What that request was answered; none where it is new.

    Raises:
        KeyReused: the key was another request's.
    """
    row = session.get(ReceiptRow, (collection_id, once.key))
    if row is not None and row.body != once.body:
        raise KeyReused("this key was sent with another body; a new request needs a new key", field="Idempotency-Key")
    return None if row is None else row.receipt


def keep_receipt(session: Session, collection_id: int, once: OnceKey, receipt: str, now: float) -> None:
    """Keeps an answer, and lets those go that are older than a day."""
    stale = delete(ReceiptRow).where(ReceiptRow.collection_id == collection_id)
    session.execute(stale.where(ReceiptRow.created_at < now - RECEIPT_SECONDS))
    session.add(ReceiptRow(collection_id=collection_id, key=once.key, body=once.body, receipt=receipt, created_at=now))
