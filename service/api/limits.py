"""How much of what a request may have, looked at before any of it is understood. Knows no route and no middleware.

What is wrong with each of a million elements would be noted a million times, so they are counted first.
"""

from typing import Any

from service.errors import InvalidInput, LimitExceeded
from service.settings import Settings

MOST_FIELDS = 1_000
"""Of an object whose fields have names that are ours."""
DEEPEST = 6
"""Levels of such objects and of lists of them."""
OWN_NAMES = ("metadata", "filter")
"""What is in these is the user's, and has limits of its own."""


def most(field: str, settings: Settings) -> int:
    """Elements that the list of that name may have."""
    return settings.max_queries if field == "queries" else settings.max_items


def at_most(count: int, field: str, settings: Settings) -> None:
    """Raises LimitExceeded where a list of that name would be too long."""
    if count > (limit := most(field, settings)):
        raise LimitExceeded(
            f"{count} are more than the {limit} a request may have; send several",
            field=field,
            limit=limit,
            setting="max_queries" if field == "queries" else "max_items",
        )


def check_parts(raw: bytes, settings: Settings, field: str) -> None:
    """Looks at JSON that is not read yet: a body of brackets takes many times its size once it is.

    Raises:
        LimitExceeded: it would be too many objects. Those within texts count as well.
    """
    if (parts := raw.count(b"[") + raw.count(b"{") + raw.count(b'"') // 2) > settings.max_json_parts:
        raise LimitExceeded(
            f"it has {parts} strings, lists and objects by its quotes and brackets; {settings.max_json_parts} are the "
            "most; send several batches",
            field=field,
            limit=settings.max_json_parts,
            setting="max_json_parts",
        )


def check_size(given: Any, settings: Settings, field: str = "", depth: int = 0) -> None:
    """Looks at what JSON was, whatever it is. A vector is not looked into.

    Raises:
        LimitExceeded: a list is too long; InvalidInput: an object has more fields than there are.
    """
    if isinstance(given, list) and not field.endswith("vector"):
        at_most(len(given), field, settings)
    if depth == DEEPEST or not isinstance(given, dict | list) or field.endswith(OWN_NAMES):
        return
    if isinstance(given, list):
        for place, one in enumerate(given):
            if isinstance(one, dict):
                check_size(one, settings, f"{field}[{place}]", depth + 1)
        return
    if len(given) > MOST_FIELDS:
        raise InvalidInput(f"{len(given)} fields are more than there are here", field=field or "body")
    for name, one in given.items():
        check_size(one, settings, f"{field}.{name}" if field else name, depth + 1)
