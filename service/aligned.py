"""The other views that a search looks into beside that of the codes: all as of one change. Knows no query."""

from collections.abc import Callable
from typing import NamedTuple

from service.chunk_follower import ChunkFollower
from service.filter import Filter
from service.filter_follower import FilterFollower
from service.follower import Follower
from service.index.chunks import ChunkView
from service.index.filters import FilterView
from service.index.postings import Mask
from service.index.segment import RowArray
from service.index.text import Ranked, TextView
from service.index.view import View
from service.text_follower import TextFollower

ROUNDS = 10
"""Tries to meet the log at one change: each takes as long as the few changes that came during the one before."""


class Aligned(NamedTuple):
    """They stand at the same change as the codes: an item that is being replaced has left them all, or none."""

    filters: FilterView | None
    words: TextView | None
    chunks: ChunkView | None
    """None where texts are not cut."""

    @classmethod
    def of(
        cls,
        view: View,
        codes: Follower,
        filters: FilterFollower | None,
        words: TextFollower | None,
        chunks: ChunkFollower | None,
    ) -> tuple[View, "Aligned"]:
        """The view, or one that came after it, and those of the followers that are given; where commits never pause,
        the others are a little newer in the end.
        """
        for left in reversed(range(ROUNDS)):
            seq = view.applied_seq
            aligned = cls(
                None if filters is None else filters.view(seq),
                None if words is None else words.view(seq),
                None if chunks is None else chunks.view(seq),
            )
            newest = max((one.applied_seq for one in aligned if one is not None), default=seq)
            if newest == seq or not left:
                break
            view = codes.view(newest)
        return view, aligned

    def rows(self, wanted: Filter) -> RowArray:
        """What a filter chooses.

        Raises:
            LookupError: no view of filters was given.
        """
        if self.filters is None:
            raise LookupError("filters")
        return self.filters.rows(wanted)

    def best(self, text: str, k: int, live: Callable[[RowArray], Mask]) -> Ranked:
        """The k best rows for a text.

        Raises:
            LookupError: no view of words was given.
        """
        if self.words is None:
            raise LookupError("words")
        return self.words.best(text, k, live)
