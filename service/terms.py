"""On what terms a batch is written. Knows no SQL and no HTTP."""

from dataclasses import dataclass
from enum import StrEnum

from service.errors import Conflict, ItemExists, SeqConflict
from service.quota import UNLIMITED, Quota


class WriteMode(StrEnum):
    """What becomes of items whose id exists, and of those whose does not."""

    UPSERT = "upsert"
    """Both are written."""
    INSERT = "insert"
    """What exists is rejected."""
    UPDATE = "update"
    """What does not exist is rejected."""


@dataclass(frozen=True)
class OnceKey:
    """Names one request: sent again with the same body, it gets the same receipt and writes nothing."""

    key: str
    body: bytes
    """A digest of the request's body."""


@dataclass(frozen=True)
class Terms:
    """By default items are inserted or replaced, each by itself."""

    atomic: bool = False
    """All items or none."""
    mode: WriteMode = WriteMode.UPSERT
    once: OnceKey | None = None
    quota: Quota = UNLIMITED


def broken(mode: WriteMode, if_seq: int | None, item_id: str, seq: int | None, field: str) -> Conflict | None:
    """Why an item must not be written, where its stored state (its `seq`, none where there is no item) is another than
    was asked for.
    """
    if mode is WriteMode.INSERT and seq is not None:
        return ItemExists(item_id, field=f"{field}.id")
    if mode is WriteMode.UPDATE and seq is None:
        return SeqConflict(f"there is no item {item_id!r} to update", field=f"{field}.id")
    return changed(if_seq, seq, f"{field}.if_seq")


def changed(if_seq: int | None, seq: int | None, field: str) -> SeqConflict | None:
    """The error where an item was changed since it had `if_seq`; 0 stands for an item that does not exist."""
    if if_seq is None or if_seq == (seq or 0):
        return None
    state = "does not exist" if seq is None else f"was last changed by seq {seq}"
    return SeqConflict(f"the item {state}, not by {if_seq}; read it again and decide anew", field=field)
