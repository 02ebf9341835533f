"""Where texts are cut: every token in a chunk, no chunk longer than asked, words whole where they can be."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.span import Span, packed, unpacked
from service.text.chunking import Chunking
from service.text.openai import OpenAIEncoder
from service.text.tfidf import TfidfEncoder


def pieces(text: str) -> list[Span]:
    """Tokens of up to two letters, as a tokenizer of word pieces has them."""
    return [Span(*found.span()) for found in re.finditer(r"\w{1,2}", text)]


def cut(text: str, tokens: int, overlap: int) -> list[str]:
    return [text[slice(*span)] for span in Chunking(tokens=tokens, overlap=overlap).chunks(text, pieces(text))]


def test_chunks_end_and_begin_between_words() -> None:
    assert cut("ab cd ef gh ij", 2, 0) == ["ab cd", "ef gh", "ij"]
    assert cut("ab cd ef gh ij", 3, 1) == ["ab cd ef", "ef gh ij"]
    assert cut("abcd efgh ijkl", 5, 0) == ["abcd efgh", "ijkl"]  # not in the midst of the third
    assert cut("abcd efgh ijkl", 5, 2) == ["abcd efgh", "efgh ijkl"]
    assert cut("abcd efgh ijkl", 4, 1) == ["abcd efgh", "ijkl"]  # half a word is not repeated
    assert cut("a bcdefghijk l", 3, 0) == ["a bcde", "fghijk", "l"]  # a word longer than a chunk
    assert cut("a aaaaa aaa", 4, 3) == ["a aaaaa", "aaaaa aa", "aaa"]  # or the second would lie within the first
    assert cut("  ab, cd.  ", 9, 3) == ["ab, cd"]
    assert cut("?! ", 9, 3) == ["?! "]


@given(st.text(alphabet="abc \n", max_size=200), st.integers(1, 12), st.data())
def test_every_token_is_in_a_chunk(text: str, tokens: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tokens - 1))
    every = pieces(text)
    found = Chunking(tokens=tokens, overlap=overlap).chunks(text, every)
    within = [
        [place for place, token in enumerate(every) if start <= token.start and token.end <= end]
        for start, end in found
    ]
    assert sorted({place for places in within for place in places}) == list(range(len(every)))
    for before, after in itertools.pairwise(within):
        assert before[0] < after[0]
        assert before[-1] < after[-1]
        assert len(set(before) & set(after)) <= overlap
    assert all(len(places) <= tokens for places in within)
    assert found == [Span(every[places[0]].start, every[places[-1]].end) for places in within if every] or not every
    assert unpacked(packed(found)) == found


def test_what_cannot_be_is_refused_by_field() -> None:
    with pytest.raises(InvalidInput, match="overlap by 7 at most, not 8") as refused:
        Chunking(tokens=8, overlap=8).check(TfidfEncoder())
    assert refused.value.field == "chunking.overlap"
    with pytest.raises(InvalidInput, match="only the endpoint knows") as refused:
        Chunking().check(OpenAIEncoder("http://127.0.0.1:9", "m", None, dimension=2))
    assert refused.value.field == "chunking"
    with pytest.raises(InvalidInput, match="name an 'encoder'"):
        Chunking().check(None)
    Chunking(tokens=100_000).check(TfidfEncoder())  # which reads everything
