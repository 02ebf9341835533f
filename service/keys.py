"""API keys: made, listed, revoked, checked. Knows no HTTP, and keeps no secret.

A key reads `cw_<id>_<secret>`: 12 hexadecimal digits by which it is found and talked of, and 32 random bytes as base64.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from service.client import is_loopback
from service.errors import InvalidInput, KeyNotFound, Unauthorized
from service.given import COLLECTION_NAME
from service.rights import Allowance, Rights, Scope
from service.settings import Settings
from service.store import keys as stored
from service.store import store
from service.store.database import Database
from service.store.tables import KeyRow

FORM = re.compile(r"cw_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@ -]{0,127}")
MOST_COLLECTIONS = 1_000
SLOWEST, FASTEST = 0.001, 1_000_000.0
"""Requests a second."""
MOST_KEPT = 2**62
LONGEST_SECONDS = 100 * 366 * 24 * 60 * 60
NO_DIGEST = bytes(32)
"""What a secret is compared with where no key has its id, so that it takes the same steps; no input has this digest."""


@dataclass(frozen=True)
class Key:
    """A key as it may be shown."""

    id: str
    name: str
    scope: Scope
    collections: list[str] | None
    """Names of those that it reaches; none for all."""
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    rate: float | None
    """Requests a second; none for any number."""
    max_items: int | None
    """In the collections that it reaches; none for what the settings say, 0 for any number."""
    max_bytes: int | None

    def state(self, now: float) -> str:
        """Whether it is active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at else "expired"


@dataclass(frozen=True)
class MadeKey:
    """A new key with its secret, which is nowhere else."""

    key: Key
    token: str = field(repr=False)
    """The whole of it, as a client sends it."""


class Keys:
    """Thread-safe. Every check reads the database: a revoked key is of no use a moment later, in any process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._exist = False

    def create(
        self,
        name: str,
        scope: Scope,
        collections: Sequence[str] | None = None,
        seconds: float | None = None,
        **limits: Any,
    ) -> MadeKey:
        """Makes a key that is valid for `seconds`, or until it is revoked; `limits` are those of `added`.

        Raises:
            InvalidInput: naming what is wrong.
        """
        with self._database.writing() as session:
            return added(session, name, scope, collections, seconds, **limits)

    def list(self) -> list[Key]:
        """All, the oldest first."""
        with self._database.reading() as session:
            return [_key(row) for row in stored.list_keys(session)]

    def revoke(self, key_id: str) -> None:
        """Makes a key invalid from now on.

        Raises:
            KeyNotFound
        """
        with self._database.writing() as session:
            if not stored.revoke_key(session, key_id, time.time()):
                raise KeyNotFound

    def exist(self) -> bool:
        """Whether a key was ever made. Revoking the last one does not open what it closed."""
        if not self._exist:  # once there are some, there always are
            with self._database.looking() as connection:
                self._exist = stored.has_keys(connection)
        return self._exist

    def check(self, token: str) -> Rights:
        """What a key that came with a request allows.

        Raises:
            Unauthorized: the same for a key that is malformed, unknown, wrong, expired or revoked.
        """
        given = FORM.fullmatch(token)
        found = None
        if given is not None:
            with self._database.looking() as connection:
                found = stored.find_key(connection, given["id"])
        secret = given["secret"] if given is not None else ""
        right = hmac.compare_digest(_digest(secret), found.digest if found is not None else NO_DIGEST)
        now = time.time()
        if (
            found is None
            or not right
            or found.revoked_at is not None
            or (found.expires_at is not None and now >= found.expires_at)
        ):
            raise Unauthorized("the API key is not valid: it is unknown, expired or revoked")
        reached = None if found.collections is None else frozenset(found.collections)
        allowance = Allowance(found.id, found.rate, found.max_items, found.max_bytes)
        return Rights(Scope(found.scope), reached, allowance)


def added(
    session: Session,
    name: str,
    scope: Scope,
    collections: Sequence[str] | None,
    seconds: float | None,
    *,
    rate: float | None = None,
    max_items: int | None = None,
    max_bytes: int | None = None,
) -> MadeKey:
    """A new key, within a transaction that the caller commits.

    Raises:
        InvalidInput
    """
    if NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name[:130]!r} is no name of a key: a letter or digit, then up to 127 letters, digits, spaces and _.@-",
            field="name",
        )
    if collections is not None and not collections:
        raise InvalidInput("an empty list reaches nothing; leave it out for all collections", field="collections")
    if len(collections or ()) > MOST_COLLECTIONS:
        raise InvalidInput(f"a key names at most {MOST_COLLECTIONS} collections", field="collections")
    for collection in collections or ():
        if re.fullmatch(COLLECTION_NAME, collection) is None:
            raise InvalidInput(
                f"{collection[:130]!r} is no name of a collection; a key without any reaches all", field="collections"
            )
        named = store.find_collection(session, collection)
        if named is not None and named.name != collection:
            raise InvalidInput(
                f"{collection!r} is an alias of {named.name!r}, and may move: name the collection itself",
                field="collections",
            )
    if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
        raise InvalidInput("a key is valid for more than 0 seconds and at most 100 years", field="expires_in")
    if rate is not None and not SLOWEST <= rate <= FASTEST:
        raise InvalidInput(f"a key has from {SLOWEST} to {FASTEST} requests a second", field="rate")
    for limit, most in (("max_items", max_items), ("max_bytes", max_bytes)):
        if most is not None and not 0 <= most <= MOST_KEPT:
            raise InvalidInput(f"it is between 0, for any number, and {MOST_KEPT}", field=limit)
    now, secret = time.time(), secrets.token_urlsafe(32)
    row = KeyRow(
        id=secrets.token_hex(6),
        name=name,
        digest=_digest(secret),
        scope=scope.value,
        collections=None if collections is None else sorted(set(collections)),
        created_at=now,
        expires_at=None if seconds is None else now + seconds,
        rate=rate,
        max_items=max_items,
        max_bytes=max_bytes,
    )
    session.add(row)
    session.flush()
    return MadeKey(_key(row), f"cw_{row.id}_{secret}")


def demanded(settings: Settings) -> bool:
    """Whether keys are needed even while there is none: without them, others could reach everything."""
    return settings.auth == "keys" or (settings.auth == "auto" and not is_loopback(settings.host))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _key(row: KeyRow) -> Key:
    return Key(
        row.id,
        row.name,
        Scope(row.scope),
        row.collections,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.rate,
        row.max_items,
        row.max_bytes,
    )
