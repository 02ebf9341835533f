"""What an engine has to do to hold a copy of a collection's codes. Knows none of them."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from service.engines.column import Column, Form
from service.engines.source import Batch

STATES = "codewell_exports"
"""Where an engine keeps the state of each copy."""


class State(NamedTuple):
    """What a copy holds."""

    collection: str
    fingerprint: str
    """Of the codec: codes of two do not compare."""
    form: Form
    seq: int
    """The collection's last change in it."""


class Engine(Protocol):
    """One copy in one engine."""

    def turn(self) -> AbstractContextManager[State | None]:
        """Nobody else writes the copy meanwhile; what it holds, none where there is no copy yet.

        Raises:
            EngineAway, EngineRefused; InvalidInput: something that Codewell did not make has its name.
        """

    def replace(self, column: Column, state: State, batches: Iterable[Batch]) -> None:
        """Within a turn: everything anew, in place of what there is once it is whole."""

    def update(self, column: Column, state: State, batches: Iterable[Batch]) -> None:
        """Within a turn: what has changed."""

    def close(self) -> None:
        """Ends the connection."""
