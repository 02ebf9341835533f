"""What one collection holds, as one process sees it: items, lists and counts. Writes nothing; knows no search."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock, Semaphore
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from models import Codes, Metric, Vectors
from service.chunk_follower import ChunkFollower
from service.engines.column import Form, column_of
from service.errors import CollectionNotFound, InvalidInput, NoEncoder, NotTrained, Unavailable
from service.filter import Every, Filter, Kind
from service.filter_follower import FilterFollower
from service.follower import PAGE, Follower
from service.index.chunks import ChunkView
from service.index.filters import FilterView
from service.index.segment import RowArray
from service.index.view import View
from service.item import checked_vector
from service.originals import Originals, decoded
from service.profile import Observer, unobserved
from service.query import Hit
from service.recent import RecentQueries
from service.snapshots import Snapshots
from service.store import payload, store
from service.store.database import Database
from service.store.tables import CollectionRow
from service.text.chunking import MOST_CHUNKS, Chunking
from service.text.encoder import TextEncoder
from service.text_follower import TextFollower

FACETS = (Kind.STRING, Kind.NUMBER, Kind.BOOLEAN)
"""The kinds of values that are counted one by one."""


class Taken(NamedTuple):
    """Bytes that a collection's views take in one process."""

    ram: Mapping[str, int]
    """By kind of view; those of the words are not known."""
    mapped: int
    """Of codes in a file, which processes share."""


class Decoded(NamedTuple):
    """What codes stand for."""

    generation: int
    vectors: Vectors
    """(n, D)"""
    errors: NDArray[np.float32] | None
    """(n,) what scores take away beside, if anything: see Codec.errors."""


class Literals(NamedTuple):
    """Queries as pgvector writes them."""

    generation: int
    code_bytes: int
    codes: list[str]
    """One a query: see Column.literals."""


class Reader:
    """Thread-safe. What it answers comes from immutable views that follow the log."""

    def __init__(
        self,
        row: CollectionRow,
        database: Database,
        encoder: TextEncoder | None,
        computing: Semaphore,
        snapshots: Snapshots | None = None,
        waiting: Semaphore | None = None,
        *,
        max_chunks: int = MOST_CHUNKS,
        observe: Observer = unobserved,
    ) -> None:
        self.id = row.id
        self.name = row.name
        self.dim = row.dimension
        self.metric = Metric(row.metric)
        self.originals = Originals(row.originals)
        self.chunking = None if row.chunking is None else Chunking.model_validate(row.chunking)
        self._database = database
        self._encoder = encoder
        self._computing = computing
        self._max_chunks = max_chunks
        self._observe = observe
        self._recent = RecentQueries()
        self._looking = Lock()
        self.follower = Follower(row, database, snapshots, waiting)
        self._filters = FilterFollower(row.id, row.name, database)
        self._words = TextFollower(row.id, row.name, database)
        self._chunks = ChunkFollower(row.id, row.name, database)

    def get(self, ids: Sequence[str], *, vectors: bool = False) -> list[Hit | None]:
        """The items in the order of `ids`, none for those that do not exist; scores are 0. The vector of an item with
        chunks is the mean of theirs.
        """
        with self._database.reading() as session:
            known = store.items_by_id(session, self.id, ids)
            kept = self._vectors(session, known.values()) if vectors else {}
        return [
            Hit(known[item_id], 0.0, kept.get(known[item_id].row_id)) if item_id in known else None for item_id in ids
        ]

    def scroll(self, wanted: Filter, after: int, limit: int, *, vectors: bool = False) -> tuple[list[Hit], int | None]:
        """The next items that the filter chooses, in the order in which their vectors came, and where to go on.

        An item whose vector changes moves to the end; of the others each is listed once, whatever is written meanwhile.
        """
        filters = None if wanted == Every() else self._newest_filters()
        with self._database.reading() as session:
            if filters is None:
                rows = [item.row_id for item in store.items_after(session, self.id, after, limit)]
            else:
                chosen = self._chosen(session, self._row(session), filters, wanted)
                rows = np.sort(chosen[chosen > after])[:limit].tolist()
            items = store.items_by_row(session, self.id, rows)
            kept = self._vectors(session, items.values()) if vectors else {}
        hits = [Hit(items[row], 0.0, kept.get(row)) for row in rows if row in items]
        return hits, rows[-1] if len(rows) == limit else None

    def count(self, wanted: Filter) -> int:
        """How many items the filter chooses."""
        return len(self._newest_filters().rows(wanted))

    def facets(self, path: str, wanted: Filter, limit: int) -> list[tuple[bool | float | str, int]]:
        """The values at `path` that most of the chosen items have, each with their number."""
        filters = self._newest_filters()
        counts = [(_plain(value), n) for kind in FACETS for value, n in filters.counts(path, kind, wanted).items()]
        return sorted(counts, key=lambda pair: (-pair[1], str(pair[0])))[:limit]

    def embed(self, texts: Sequence[str], field: str) -> Vectors:
        """(n, D) vectors of texts by the collection's encoder.

        Raises:
            NoEncoder, EncoderFailed
        """
        return self._text_encoder(f"{field}[0]").encode(texts).vectors

    def encode(self, vectors: Sequence[Vectors], field: str) -> tuple[int, Codes]:
        """The generation that searches use, and the (n, code_bytes) codes that it makes of (D,) vectors.

        Raises:
            NotTrained; InvalidInput: a vector is none of this collection's.
        """
        view = self._trained()
        return view.generation_id or 0, view.codec.encode(self._checked(vectors, field))

    def literals(self, vectors: Sequence[Vectors], field: str) -> Literals:
        """What a copy of the codes in pgvector is asked with, of (D,) vectors.

        Raises:
            NotTrained; InvalidInput: a vector is none of this collection's, or pgvector compares no such codes.
        """
        view = self._trained()
        column = column_of(view.codec, Form.CODES, "format")
        written = column.literals(self._checked(vectors, field))
        return Literals(view.generation_id or 0, view.codec.code_bytes, written)

    def decode(self, codes: Sequence[bytes], field: str) -> Decoded:
        """What the generation that searches use makes of codes.

        Raises:
            NotTrained; InvalidInput: a code is not of its length.
        """
        view = self._trained()
        size = view.codec.code_bytes
        for place, code in enumerate(codes):
            if len(code) != size:
                detail = f"codes of generation {view.generation_id} have {size} bytes, this one has {len(code)}"
                raise InvalidInput(detail, field=f"{field}[{place}]")
        stacked = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), size)
        return Decoded(view.generation_id or 0, view.codec.decode(stacked), view.codec.errors(stacked))

    def applied_seq(self) -> int | None:
        """The last change that all views hold that there are; none where there is no view."""
        views = (self.follower.loaded, self._filters.loaded, self._words.loaded, self._chunks.loaded)
        return min((view.applied_seq for view in views if view is not None), default=None)

    def taken(self) -> Taken:
        """What the views that there are take."""
        codes, postings = self.follower.loaded, self._filters.loaded
        mapped = 0 if codes is None else codes.mapped_bytes
        ram = {
            "codes": 0 if codes is None else codes.ram_bytes - mapped,
            "codec": 0 if codes is None else codes.codec.ram_bytes,
            "postings": 0 if postings is None else postings.ram_bytes,
        }
        return Taken(ram, mapped)

    def is_behind(self, head: store.Head) -> bool:
        """Whether the database holds more than the views that there are."""
        views = (self._filters, self._words, self._chunks)
        return self.follower.is_behind(head) or any(view.is_behind(head.seq) for view in views)

    def follow(self) -> None:
        """Brings the views that there are to the end of the log."""
        self.follower.follow()
        self._filters.follow()
        self._words.follow()
        self._chunks.follow()

    def _checked(self, vectors: Sequence[Vectors], field: str) -> Vectors:
        """(n, D) of (D,) vectors."""
        return np.stack(
            [checked_vector(one, self.dim, self.metric, f"{field}[{place}]") for place, one in enumerate(vectors)]
        )

    def _trained(self) -> View:
        view = self.follower.view()
        if view.generation_id is None:
            raise NotTrained(self.name)
        return view

    def _text_encoder(self, field: str) -> TextEncoder:
        if self._encoder is None:
            raise NoEncoder(self.name, field=field)
        return self._encoder

    def _newest_filters(self) -> FilterView:
        with self._database.reading() as session:
            seq = self._row(session).seq
        return self._filters.view(seq)

    def _chosen(self, session: Session, row: CollectionRow, filters: FilterView, wanted: Filter) -> RowArray:
        """The rows that a filter chooses, as the session sees them; `filters` are from before it."""
        if filters.applied_seq < row.floor_seq:
            raise Unavailable("the log was cut meanwhile; try again")
        return self._filters.advanced(session, filters).rows(wanted)

    def _chunk_view(self, seq: int) -> ChunkView | None:
        """Of `seq` or later; none where texts are not cut."""
        return None if self.chunking is None else self._chunks.view(seq)

    def _texts(self, rows: RowArray) -> dict[int, str]:
        """Of rows, and where they are chunks, of these alone; without those that are gone or have none."""
        chunks = self._chunk_view(0)
        owners = rows if chunks is None else chunks.items_of(rows)
        with self._database.reading() as session:
            items = store.items_by_row(session, self.id, np.unique(owners).tolist())
        found: dict[int, str] = {}
        for row, owner in zip(rows.tolist(), owners.tolist(), strict=True):
            if (item := items.get(owner)) is not None and item.text is not None:
                found[row] = item.text if item.chunks is None else item.text[slice(*item.spans[row - owner])]
        return found

    def _vectors(self, session: Session, items: Iterable[store.Item]) -> dict[int, NDArray[np.float32]]:
        """The vector of each item by its row, without those that were dropped."""
        known = list(items)
        stored = payload.vectors_by_row(session, self.id, [row for item in known for row in item.rows])
        found: dict[int, NDArray[np.float32]] = {}
        for item in known:
            kept = [stored[row] for row in item.rows if row in stored]
            if len(kept) == len(item.rows):
                found[item.row_id] = decoded(kept, self.dim).mean(axis=0)
        return found

    def _metadata(self, rows: RowArray) -> dict[int, dict[str, Any]]:
        with self._database.reading() as session:
            items = store.items_by_row(session, self.id, rows.tolist())
        return {row: json.loads(item.metadata) for row, item in items.items()}

    def _originals(self, rows: RowArray) -> Mapping[int, bytes]:
        with self._database.looking() as connection:
            return payload.vectors_by_row(connection, self.id, rows.tolist())

    def _blocks(self) -> Iterator[tuple[RowArray, Vectors]]:
        last = 0
        while True:
            with self._database.reading() as session:
                page = payload.vectors_after(session, self.id, last, PAGE)
            if not page:
                return
            yield np.array([row for row, _ in page], np.int64), decoded([vector for _, vector in page], self.dim)
            last = page[-1][0]

    def _blocks_of(self, rows: RowArray) -> Iterator[tuple[RowArray, Vectors]]:
        """The vectors of ascending rows, without those that are gone."""
        for start in range(0, len(rows), PAGE):
            stored = self._originals(rows[start : start + PAGE])
            kept = np.array(sorted(stored), np.int64)
            yield kept, decoded([stored[row] for row in kept.tolist()], self.dim)

    def _vector(self, stored: bytes | None) -> NDArray[np.float32] | None:
        return None if stored is None else decoded([stored], self.dim)[0]

    def _row(self, session: Session, *, lock: bool = False) -> CollectionRow:
        row = store.lock_collection(session, self.id) if lock else session.get(CollectionRow, self.id)
        if row is None:
            raise CollectionNotFound(self.name, field="collection")
        return row


def _plain(value: bool | float | str) -> bool | float | str:
    """Whole numbers as they were sent."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
