"""`codewell export --to`: a collection's codes copied to an engine, once or without end."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from service.console import Progress

if TYPE_CHECKING:
    from service.engines.engine import Engine
    from service.engines.mirror import Step
    from service.errors import CodewellError
    from service.store.database import Database

EngineName = Literal["pgvector", "milvus"]
ADDRESSES = {"pgvector": "postgresql://USER@HOST/NAME", "milvus": "http://HOST:19530"}


def check(file: Path | None, to: EngineName | None, only_there: dict[str, object]) -> None:
    """Raises typer.BadParameter where FILE, --to and the options that go with it do not go together."""
    given = [option for option, value in only_there.items() if value]
    if (file is None) == (to is None):
        raise typer.BadParameter("give either a file, or an engine by --to and --target", param_hint="FILE")
    if to is None and given:
        raise typer.BadParameter("it goes with --to, not with a file", param_hint=given[0])
    if to is not None and "--target" not in given:
        raise typer.BadParameter(f"--to {to} needs an address: --target {ADDRESSES[to]}", param_hint="--target")
    if to == "milvus" and "--index" in given:
        raise typer.BadParameter(
            "it is for pgvector: in Milvus, make the index that you want there", param_hint="--index"
        )


def copy(
    database: "Database",
    name: str,
    to: EngineName,
    target: str,
    table: str | None,
    form: str,
    *,
    index: bool,
    follow: bool,
) -> None:
    """Copies what is not there yet, and with `follow` goes on until Ctrl-C or SIGTERM."""
    from service.engines.column import Form
    from service.engines.mirror import Mirror
    from service.store import store

    endings = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(ending, signal.default_int_handler) for ending in endings]
    with database.reading() as session:
        table = table or store.found_collection(session, name).name
    copied = False
    engine = _engine(to, target, table, index)
    mirror = Mirror(database, name, engine, Form(form))
    try:
        with _Rows(name) as rows:
            step = mirror.step(rows.to)
        copied = True
        _say(step, to, table)
        if follow:
            mirror.follow(lambda step: _say(step, to, table), _say_away)
    except KeyboardInterrupt:
        if not (follow and copied):
            typer.echo("stopped: what was not whole is not there; the same command begins it again", err=True)
            raise typer.Exit(130) from None
    finally:
        engine.close()
        for ending, handler in zip(endings, before, strict=True):
            signal.signal(ending, handler)


def _engine(to: EngineName, target: str, table: str, index: bool) -> "Engine":
    if to == "pgvector":
        from service.engines.pgvector import PgVector

        return PgVector(target, table, index=index)
    from service.engines.milvus import Milvus

    return Milvus(target, table)


def _say(step: "Step", to: EngineName, table: str) -> None:
    what = "all anew" if step.whole else f"{step.gone:,} removed or replaced"
    typer.echo(f"{step.rows:,} rows written, {what}, as of seq {step.seq}, to {table!r} by {to}")


def _say_away(error: "CodewellError") -> None:
    typer.echo(f"{error}; going on trying", err=True)


class _Rows:
    """A progress that begins once it is known how many rows there are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._progress: Progress | None = None

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(*sys.exc_info())

    def to(self, done: int, total: int) -> None:
        """Says that so many rows are written."""
        if self._progress is None:
            self._progress = Progress(f"export {self._name}", total, "rows").__enter__()
        self._progress.to(done)
