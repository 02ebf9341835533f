"""What a caller may do: a scope, and the collections that it reaches. Knows no key, no database and no HTTP."""

from dataclasses import dataclass
from enum import StrEnum

from service.errors import Forbidden


class Scope(StrEnum):
    """What a caller may do within the collections that it reaches; each scope allows what stands before it too."""

    READ = "read"
    """Search, encode, read items, collections and jobs."""
    WRITE = "write"
    """Insert, change and delete items."""
    ADMIN = "admin"
    """Make, train and delete collections, cancel jobs; with all collections also aliases and keys."""

    def allows(self, needed: "Scope") -> bool:
        """Whether it is that scope or one above it."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class Allowance:
    """How much one API key may take; none is no limit of its own."""

    key: str
    """Its id."""
    rate: float | None = None
    """Requests a second."""
    max_items: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class Rights:
    """A caller's. Collections are meant by their own names: an alias is reached where what it stands for is."""

    scope: Scope | None
    """None may do nothing."""
    collections: frozenset[str] | None
    """None reaches all. A name may be free: its first ingest makes the collection."""
    allowance: Allowance | None = None
    """How much the caller's key may take; none where no keys are needed."""

    def require(self, needed: Scope) -> None:
        """Raises Forbidden where the scope is too low."""
        if self.scope is None or not self.scope.allows(needed):
            raise Forbidden(f"this needs an API key of the scope {needed}; this one's is {self.scope}")

    def reaches(self, collection: str) -> bool:
        """Whether a collection is among those reached."""
        return self.collections is None or collection in self.collections

    def require_collection(self, collection: str, field: str, *, called: str | None = None) -> None:
        """Raises Forbidden where a collection is not reached; the error has the name by which it was called."""
        if not self.reaches(collection):
            raise Forbidden(f"this API key does not reach a collection or alias {called or collection!r}", field=field)

    def require_all(self, what: str) -> None:
        """Raises Forbidden where only some collections are reached; `what` says in words what needs all."""
        if self.collections is not None:
            raise Forbidden(f"{what} need an API key for all collections; this one is for {sorted(self.collections)}")


EVERYTHING = Rights(Scope.ADMIN, None)
"""Of everyone where no keys are needed."""
NOTHING = Rights(None, frozenset())
