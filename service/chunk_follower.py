"""How the view of which rows are chunks of one item follows a collection. Knows no vectors and no HTTP."""

from collections.abc import Iterator, Sequence

import numpy as np

from service.index.chunks import ChunkView
from service.item_follower import ItemFollower
from service.store.content import Content, ContentChange


class ChunkFollower(ItemFollower[ChunkView]):
    """Of a collection that cuts its texts; of another it is never asked."""

    content = Content.ROWS

    def _made(self, seq: int, items: Iterator[tuple[int, str | None]]) -> ChunkView:
        long = [(row, int(size)) for row, size in items if size is not None and int(size) > 1]
        rows, sizes = np.array(long, np.int64).reshape(-1, 2).T
        return ChunkView(seq, rows, sizes)

    def _applied(self, view: ChunkView, changes: Sequence[ContentChange]) -> ChunkView:
        # A row is named by the seq that brought it. Of one that is no item's, the number is 1.
        long = [
            (change.seq, int(change.content))
            for change in changes
            if change.row_id == change.seq and change.content is not None and int(change.content) > 1
        ]
        rows, sizes = np.array(long, np.int64).reshape(-1, 2).T
        removed = [change.old_row_id for change in changes if change.old_row_id is not None]
        return view.applied(changes[-1].seq, rows, sizes, np.array(removed, np.int64))
