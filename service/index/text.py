"""Which rows have the words of a text, best first by BM25: views of an index in RAM. Knows no SQL and no vectors."""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import tantivy

from models import Scores
from service.index.postings import Mask
from service.index.segment import RowArray

LONGEST_WORD = 80
"""Characters; longer runs without a break are no words."""
WRITER_BYTES = 15_000_000
"""What the writer collects before it writes a segment: the least that tantivy takes."""
FEWEST_LISTED = 64
"""Rows that are listed at first, however few are wanted,"""
DEEPER = 8
"""and how many times as many where too few of them are live."""
SNIPPET_CHARS = 200


class Ranked(NamedTuple):
    """Rows, best first."""

    rows: RowArray
    """(r,), not ascending"""
    scores: Scores
    """(r,)"""

    def without(self, rows: Set[int]) -> "Ranked":
        """The others, in their order."""
        keep = ~np.isin(self.rows, list(rows))
        return Ranked(self.rows[keep], self.scores[keep])


@dataclass(frozen=True)
class TextView:
    """Texts as of a seq. Later views share the index with it; what it answers stays as it is.

    Words are runs of letters and digits, lower-cased, without accents and English stop words, cut to their English
    stems. BM25(q, d) = sum over the different words t of q of

        ln(1 + (N - n_t + .5) / (n_t + .5)) f_td (k1 + 1) / (f_td + k1 (1 - b + b |d| / mean |d|)),  k1 = 1.2, b = .75

    where N texts there are, n_t have the word, f_td times in d. Texts that were removed count in N and n_t until
    their segment is merged with another.
    """

    applied_seq: int
    index: tantivy.Index
    writer: tantivy.IndexWriter
    searcher: tantivy.Searcher

    @classmethod
    def of(cls, seq: int, texts: Iterable[tuple[int, str]]) -> "TextView":
        """A view of rows and the text of each."""
        index = tantivy.Index(_schema())
        index.register_tokenizer("english", _analyzer())
        index.config_reader("manual")
        writer = index.writer(WRITER_BYTES, num_threads=1)
        for row, text in texts:
            writer.add_document(tantivy.Document(row=row, text=text))
        return cls._committed(seq, index, writer)

    def applied(self, seq: int, added: Mapping[int, str], removed: Sequence[int]) -> "TextView":
        """The view after the log up to `seq`: rows that are new, and rows that are gone.

        Applied to the newest view only. Where that failed half-way it can be done again, up to `seq` or further.
        """
        if not added and not removed:
            return replace(self, applied_seq=seq)
        for row in (*removed, *added):
            self.writer.delete_documents_by_term("row", row)
        for row, text in added.items():
            self.writer.add_document(tantivy.Document(row=row, text=text))
        return self._committed(seq, self.index, self.writer)

    @classmethod
    def _committed(cls, seq: int, index: tantivy.Index, writer: tantivy.IndexWriter) -> "TextView":
        writer.commit()
        index.reload()
        return cls(seq, index, writer, index.searcher())

    def __len__(self) -> int:
        return self.searcher.num_docs

    def best(self, words: str, k: int, live: Callable[[RowArray], Mask]) -> Ranked:
        """The k best rows among those that are `live`, ties by older row; fewer only where no more have such words."""
        query, limit = _query(words), max(k, FEWEST_LISTED)
        while True:
            limit = max(1, min(limit, len(self)))
            hits = self.searcher.search(query, limit, count=False).hits
            rows = np.array(self.searcher.fast_field_values("row", [place for _, place in hits]), np.int64)
            keep = live(rows)
            if np.count_nonzero(keep) >= k or len(hits) < limit or limit >= len(self):
                break
            limit *= DEEPER
        scores = np.array([score for score, _ in hits], np.float32)
        rows, scores = rows[keep], scores[keep]
        order = np.lexsort((rows, -scores))[:k]
        return Ranked(rows[order], scores[order])

    def most_worded(self, words: str, texts: Sequence[str]) -> int:
        """Which of the texts has most of the different words; the first of equal ones."""
        terms = set(_analyzer().analyze(words))
        return int(np.argmax([len(terms.intersection(_analyzer().analyze(text))) for text in texts]))

    def snippets(self, words: str, texts: Iterable[str | None]) -> list[str | None]:
        """Of each text the part with most of the words, as HTML with these in <b>; its beginning where it has none."""
        generator = tantivy.SnippetGenerator.create(self.searcher, _query(words), _schema(), "text")
        generator.set_max_num_chars(SNIPPET_CHARS)
        found: list[str | None] = []
        for text in texts:
            document = tantivy.Document(text=text or "")
            found.append(text and (generator.snippet_from_doc(document).to_html() or _beginning(text)))
        return found


def _query(words: str) -> tantivy.Query:
    """Any of the words, each once: made of terms, so that nothing in them means anything to a parser."""
    terms = dict.fromkeys(_analyzer().analyze(words))
    parts = [tantivy.Query.term_query(_schema(), "text", term, index_option="freq") for term in terms]
    return tantivy.Query.boolean_query([(tantivy.Occur.Should, part) for part in parts])


def _beginning(text: str) -> str:
    start = text[:SNIPPET_CHARS]
    end = start.rfind(" ") if len(text) > SNIPPET_CHARS else 0
    return html.escape(start[:end] if end > 0 else start)


@cache
def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder().add_integer_field("row", indexed=True, fast=True)
    return builder.add_text_field("text", tokenizer_name="english", index_option="freq").build()


@cache
def _analyzer() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.remove_long(LONGEST_WORD))
    filters = (
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.stopword("english"),
        tantivy.Filter.stemmer("english"),
    )
    for one in filters:
        builder = builder.filter(one)
    return builder.build()
