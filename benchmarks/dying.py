"""`codewell`, of which one process kills itself at a named point. Run in its place: `python -m benchmarks.dying serve`.

DYING names the point, before or after, and its how-manieth passing in the life of a process, `commit:before:17`, and
DYING_ONCE a file that the first to die makes, so that those started later live on. Points: `commit` of a transaction,
`rename` of a file or folder that was written beside its place, `swap` to another codec. Jobs and workers are spawned,
and a spawned process imports the module that the first one ran: they may die as well.
"""

import functools
import os
import signal
from collections.abc import Callable
from itertools import count
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from service.cli import app
from service.swap import Swap

POINTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "commit": ((DefaultDialect, "do_commit"),),
    "rename": ((os, "rename"), (os, "replace")),
    "swap": ((Swap, "publish"),),
}
"""By name the functions that pass it."""


def arm(point: str, when: str, passing: int, once: str) -> None:
    """Lets this process die there."""
    passings = count(1)

    def armed(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **more: Any) -> Any:
            due = next(passings) == passing
            if due and when == "before":
                die(once)
            result = function(*args, **more)
            if due and when == "after":
                die(once)
            return result

        return wrapped

    for owner, name in POINTS[point]:
        setattr(owner, name, armed(getattr(owner, name)))


def die(once: str) -> None:
    """SIGKILL, unless another process was the first."""
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


if "DYING" in os.environ and __name__ in ("__main__", "__mp_main__"):
    at, side, passing_text = os.environ["DYING"].split(":")
    arm(at, side, int(passing_text), os.environ["DYING_ONCE"])
if __name__ == "__main__":
    app()
