"""The views of filters and of words that a search looks into beside that of the codes. Knows no query."""

from collections.abc import Callable
from typing import NamedTuple, cast

from service.filter import Filter
from service.filter_follower import FilterFollower
from service.follower import Follower
from service.index.filters import FilterView
from service.index.postings import Mask
from service.index.segment import RowArray
from service.index.text import Ranked, TextView
from service.index.view import View
from service.text_follower import TextFollower


class Aligned(NamedTuple):
    """They stand at the same change as the codes: an item that is being replaced has left them all, or none."""

    filters: FilterView | None = None
    words: TextView | None = None

    @classmethod
    def of(
        cls, view: View, codes: Follower, filters: FilterFollower | None, words: TextFollower | None
    ) -> tuple[View, "Aligned"]:
        """The view, or one that came after it, and those of the followers that are given, as they are then."""
        while True:
            aligned = cls(
                None if filters is None else filters.view(view.applied_seq),
                None if words is None else words.view(view.applied_seq),
            )
            newest = max((one.applied_seq for one in aligned if one is not None), default=view.applied_seq)
            if newest == view.applied_seq:
                return view, aligned
            view = codes.view(newest)

    def rows(self, wanted: Filter) -> RowArray:
        """What a filter chooses, where the view of filters was given."""
        return cast("FilterView", self.filters).rows(wanted)

    def best(self, text: str, k: int, live: Callable[[RowArray], Mask]) -> Ranked:
        """The k best rows for a text, where the view of words was given."""
        return cast("TextView", self.words).best(text, k, live)
