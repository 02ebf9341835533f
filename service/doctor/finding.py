"""What a check says. Knows no check."""

from enum import StrEnum
from typing import NamedTuple

GB = 1024**3


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """What a check found, and what to do about it."""

    check: str
    state: State
    detail: str
    advice: str | None = None
