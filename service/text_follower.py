"""How the view that words are looked up in follows a collection's texts. Knows no vectors and no HTTP."""

from collections.abc import Iterator, Sequence

from service.index.text import TextView
from service.item_follower import ItemFollower
from service.store.content import Content, ContentChange


class TextFollower(ItemFollower[TextView]):
    """What no words were ever asked of is not loaded."""

    content = Content.TEXT

    def _made(self, seq: int, items: Iterator[tuple[int, str | None]]) -> TextView:
        return TextView.of(seq, ((row, text) for row, text in items if text is not None))

    def _applied(self, view: TextView, changes: Sequence[ContentChange]) -> TextView:
        # A new text takes a new row, named by the seq that brought it; another entry changed only metadata.
        added = {
            change.seq: change.content
            for change in changes
            if change.row_id == change.seq and change.content is not None
        }
        removed = [change.old_row_id for change in changes if change.old_row_id is not None]
        try:
            return view.applied(changes[-1].seq, added, removed)
        except Exception:
            self._view = None  # a writer that failed once may never write again: the next search makes another
            raise
