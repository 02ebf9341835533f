"""The pictures that a training leaves with its job. Knows no kind of codec and no database."""

import logging
from pathlib import Path
from typing import NamedTuple

from models import Fitted, Vectors

log = logging.getLogger(__name__)

FOLDER = "pictures"
"""Of a job's scratch, with a PNG for each name."""


class Pictures(NamedTuple):
    """What was drawn."""

    names: tuple[str, ...]
    reason: str | None
    """Why there is none; nothing where there are some."""


SWITCHED_OFF = Pictures((), "CODEWELL_PICTURES is false")


def draw(fitted: Fitted, vectors: Vectors, held_out: Vectors, scratch: Path) -> Pictures:
    """Draws the pictures that the codec's kind has, of (n, D) training and (q, D) held-out vectors, into `scratch`.

    What was learned is worth publishing without them, so that no failure passes through.
    """
    from models import Portrait, can_draw

    if not can_draw():
        return Pictures((), "matplotlib is not installed: pip install 'codewell[plots]'")
    try:
        return Pictures(tuple(Portrait(*fitted, vectors, held_out).draw(scratch / FOLDER)), None)
    except Exception as error:
        log.exception("the pictures could not be drawn")
        return Pictures((), f"drawing failed: {type(error).__name__}: {error}")


def read(names: list[str], scratch: Path) -> dict[str, bytes]:
    """The PNGs that `draw` wrote, by name."""
    return {name: (scratch / FOLDER / f"{name}.png").read_bytes() for name in names}
