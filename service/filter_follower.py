"""How the view that filters look into follows a collection's metadata. Knows no vectors and no HTTP."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from service.index.filters import FilterView
from service.item_follower import ItemFollower
from service.store.content import Content, ContentChange


class FilterFollower(ItemFollower[FilterView]):
    """What no filter was ever asked of is not loaded."""

    content = Content.METADATA

    def _made(self, seq: int, items: Iterator[tuple[int, str | None]]) -> FilterView:
        rows: list[int] = []

        def metadata() -> Iterator[Mapping[str, Any]]:
            for row, held in items:
                rows.append(row)
                yield json.loads(held or "{}")

        return FilterView.of(seq, rows, metadata())

    def _applied(self, view: FilterView, changes: Sequence[ContentChange]) -> FilterView:
        changed = {
            change.row_id: json.loads(change.content)
            for change in changes
            if change.row_id is not None and change.content is not None
        }
        removed = [change.old_row_id for change in changes if change.old_row_id is not None]
        return view.applied(changes[-1].seq, changed, np.array(removed, np.int64))
