"""How much may be kept: of one collection, and of all that an API key reaches. Knows no HTTP and no key."""

from collections.abc import Set
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.errors import QuotaExceeded
from service.store import store
from service.store.tables import CollectionRow


@dataclass(frozen=True)
class Quota:
    """Limits of a write; 0 is no limit."""

    collection_items: int = 0
    collection_bytes: int = 0
    key_items: int = 0
    key_bytes: int = 0
    reached: Set[str] | None = None
    """The collections that the key's limits are over; none for all."""

    def check(self, session: Session, row: CollectionRow, before: store.Size) -> None:
        """Looks at what a write made of a collection of the size `before`, within the transaction that wrote it.

        What does not grow is let through, however much there is. Writes to several of a key's collections at the same
        moment do not see each other: together they may go beyond by as much as they write.

        Raises:
            QuotaExceeded
        """
        now = store.size_of(row)
        more_items, more_bytes = now.items > before.items, now.bytes > before.bytes
        own, theirs = f"the collection {row.name!r}", "the collections of this API key"
        if more_items:
            _refuse(now.items, self.collection_items, f"{own} would have", "items", "CODEWELL_MAX_COLLECTION_ITEMS")
        if more_bytes:
            _refuse(now.bytes, self.collection_bytes, f"{own} would take", "bytes", "CODEWELL_MAX_COLLECTION_BYTES")
        if (more_items and self.key_items) or (more_bytes and self.key_bytes):
            all_now = store.total_size(session, self.reached)
            if more_items:
                _refuse(all_now.items, self.key_items, f"{theirs} would have", "items", "the key's max_items")
            if more_bytes:
                _refuse(all_now.bytes, self.key_bytes, f"{theirs} would take", "bytes", "the key's max_bytes")


UNLIMITED = Quota()


def _refuse(there: int, most: int, whose: str, what: str, setting: str) -> None:
    if most and there > most:
        raise QuotaExceeded(f"{whose} {there} {what}, and {most} is the most: delete some first; {setting} raises it")
