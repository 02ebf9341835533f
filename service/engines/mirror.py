"""Keeps an engine in step with a collection: all of it the first time, later what its log changed. Knows no engine."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from models import load_codec
from service.engines.column import Column, Form, column_of
from service.engines.engine import Engine, State
from service.engines.source import Batch, Source
from service.errors import CodewellError, EngineAway, InvalidInput, Unavailable
from service.store import store
from service.store.database import Database

PAUSE_SECONDS = 0.5
"""Between two looks at the log."""

Progress = Callable[[int, int], object]
"""Told rows written so far, and how many there are."""


class Step(NamedTuple):
    """What one look at the collection brought to the engine."""

    whole: bool
    """Whether everything was copied; else what changed."""
    rows: int
    """Written."""
    gone: int
    """Removed, or replaced."""
    seq: int
    """The copy is the collection after this change."""


class Mirror:
    """One collection and its copy."""

    def __init__(self, database: Database, name: str, engine: Engine, form: Form) -> None:
        self._database = database
        self._name = name
        self._engine = engine
        self._form = form
        self._column: tuple[int, Column] | None = None
        """And of which generation."""
        self._head: store.Head | None = None
        """As the copy has it."""

    def step(self, progress: Progress = lambda *_: None) -> Step:
        """Brings the copy to the end of the log.

        Raises:
            CollectionNotFound, NotTrained, InvalidInput, EngineRefused, EngineAway
        """
        with self._engine.turn() as held, self._database.reading() as session:
            source = Source(session, self._name)
            state = State(source.name, source.fingerprint, self._form, source.seq)
            if held is not None and held.collection != state.collection:
                raise InvalidInput(
                    f"the collection {held.collection!r} is copied there already: name another by --table",
                    field="table",
                )
            counted = _Counted(progress, source.row_count)
            whole = held is None or not _goes_on(held, state, source.floor_seq)
            if held is None or whole:
                self._engine.replace(self._column_of(source), state, counted(source.whole()))
            elif held.seq < state.seq:
                self._engine.update(self._column_of(source), state, counted(source.since(held.seq)))
        self._head = store.Head(source.seq, source.generation_id)
        return Step(whole, counted.rows, counted.gone, source.seq)

    def follow(self, done: Callable[[Step], None], failed: Callable[[CodewellError], None]) -> None:
        """Steps whenever the collection has changed, without end. An engine or a database that is away comes back:
        `failed` is told once.

        Raises:
            CollectionNotFound, InvalidInput, EngineRefused
        """
        away = False
        with closing(self._database.signal()) as signal:
            while True:
                try:
                    with self._database.translated_errors():
                        signal.wait(PAUSE_SECONDS)
                    if self._is_behind():
                        done(self.step())
                    away = False
                except (EngineAway, Unavailable) as error:
                    if not away:
                        failed(error)
                    away = True
                    time.sleep(PAUSE_SECONDS)

    def _is_behind(self) -> bool:
        with self._database.reading() as session:
            row = store.found_collection(session, self._name)
            return store.Head(row.seq, row.generation_id) != self._head

    def _column_of(self, source: Source) -> Column:
        if self._column is None or self._column[0] != source.generation_id:
            self._column = source.generation_id, column_of(load_codec(source.codec()), self._form, "form")
        return self._column[1]


def _goes_on(held: State, state: State, floor_seq: int) -> bool:
    """Whether the log leads from what is held to what there is; not where it was cut, nor back before a restore."""
    return held._replace(seq=state.seq) == state and floor_seq <= held.seq <= state.seq


class _Counted:
    """Hands batches on and counts what is in them."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self.rows = self.gone = 0

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        self._progress(0, self._total)
        for batch in batches:
            yield batch
            self.rows, self.gone = self.rows + len(batch.rows), self.gone + len(batch.gone)
            self._progress(self.rows, self._total)
