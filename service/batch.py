"""A batch of items on its way in: which can be kept, their vectors and codes, what is to be written. Knows no SQL."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models import Codec, Metric, Vectors
from service.errors import DuplicateId, InvalidInput, LimitExceeded, NoEncoder
from service.item import Malformed, NewItem, canonical, checked_vector
from service.originals import Originals
from service.receipt import ItemResult, ItemStatus
from service.span import Span, packed
from service.store.store import Item, Write
from service.terms import WriteMode, broken
from service.text.chunking import MOST_CHUNKS, Chunking
from service.text.encoder import TextEncoder


class Batch:
    """Items are named by their position in the request; `results` grows from rejections to the whole receipt."""

    def __init__(
        self,
        items: Sequence[NewItem | Malformed],
        collection: str,
        dim: int,
        metric: Metric,
        encoder: TextEncoder | None,
        mode: WriteMode = WriteMode.UPSERT,
        originals: Originals = Originals.FLOAT32,
        *,
        chunking: Chunking | None = None,
        max_chunks: int = MOST_CHUNKS,
    ) -> None:
        self._collection = collection
        self._dim = dim
        self._metric = metric
        self._encoder = encoder
        self._mode = mode
        self._originals = originals
        self._chunking = chunking
        self._max_chunks = max_chunks
        self.results: dict[int, ItemResult] = {}
        self._items: dict[int, NewItem] = {}
        seen: set[str] = set()
        for position, item in enumerate(items):
            try:
                self._items[position] = self._accepted(item, seen, f"items[{position}]")
            except InvalidInput as error:
                self.results[position] = ItemResult(position, item.id, ItemStatus.REJECTED, error)
        self._digests = {position: item.digest() for position, item in self._items.items()}
        self._spans: dict[int, list[Span]] = {}
        """The chunks of encoded items."""
        self._places: dict[int, slice] = {}
        """Where an encoded item's vectors stand in `_vectors`."""
        self._vectors: Vectors = np.empty((0, dim), np.float32)
        self._codes: NDArray[np.uint8] | None = None
        self._warnings: dict[int, str] = {}

    @property
    def ids(self) -> list[str]:
        """Of the items that can be kept."""
        return [item.id for item in self._items.values()]

    def encode(self, known: Mapping[str, Item], codec: Codec | None) -> None:
        """Makes vectors, and codes where there is a codec, of the items whose text or vector is new beside `known`."""
        fresh = [position for position in self._items if not self._same(position, known)]
        if self._chunking is not None and self._encoder is not None:
            fresh = self._cut(fresh, self._chunking, self._encoder)
        self._places, self._warnings, rows = {}, {}, 0
        texts: list[str] = []
        owners: list[tuple[int, int]] = []
        for position in fresh:
            parts = self._parts(position)
            begin, rows = rows, rows + len(parts)
            self._places[position] = slice(begin, rows)
            if self._items[position].vector is None:
                texts += parts
                owners += [(position, row) for row in range(begin, rows)]
        self._vectors = np.zeros((rows, self._dim), np.float32)
        for position in fresh:
            if (vector := self._items[position].vector) is not None:
                self._vectors[self._places[position]] = vector
        if texts and self._encoder is not None:
            encoded = self._encoder.encode(texts)
            self._vectors[[row for _, row in owners]] = encoded.vectors
            for (position, _), warning in zip(owners, encoded.warnings, strict=True):
                if warning is not None:
                    self._warnings.setdefault(position, warning)
        # Codes are those of what is kept, so that they can be made again from it.
        self._vectors = self._vectors.astype(self._originals.stored_as).astype(np.float32)
        self._codes = codec.encode(self._vectors) if codec is not None else None

    def writes(self, known: Mapping[str, Item]) -> list[Write] | None:
        """What is to be written beside `known`, the state under the lock; none where an item must be encoded first."""
        writes: list[Write] = []
        for position, item in self._items.items():
            old, metadata = known.get(item.id), canonical(item.metadata)
            seq = None if old is None else old.seq
            if (conflict := broken(self._mode, item.if_seq, item.id, seq, f"items[{position}]")) is not None:
                self.results[position] = ItemResult(position, item.id, ItemStatus.REJECTED, conflict)
                continue
            same = self._same(position, known)
            if not same and position not in self._places:
                return None
            status = ItemStatus.INSERTED if old is None else ItemStatus.UPDATED
            if same and old is not None and old.metadata == metadata:
                status = ItemStatus.UNCHANGED
            else:
                place = slice(0) if same else self._places[position]
                codes = [] if self._codes is None else [code.tobytes() for code in self._codes[place]]
                dropped = bool(codes) and self._originals is Originals.DROP
                stored = self._vectors[place].astype(self._originals.stored_as, copy=False)
                vectors = [] if dropped else [vector.tobytes() for vector in stored]
                spans = self._spans.get(position)
                chunks = None if spans is None else packed(spans)
                writes.append(Write(item.id, self._digests[position], item.text, metadata, chunks, vectors, codes))
            self.results[position] = ItemResult(position, item.id, status, warning=self._warnings.get(position))
        return writes

    def refused(self) -> list[ItemResult]:
        """Those that are not written."""
        return [result for result in self.results.values() if result.error is not None]

    def ordered_results(self) -> list[ItemResult]:
        """One a position."""
        return [self.results[position] for position in sorted(self.results)]

    def _cut(self, positions: Sequence[int], chunking: Chunking, encoder: TextEncoder) -> list[int]:
        """Finds the chunks of texts; returns the positions of those that there is room for, and rejects the others."""
        kept, total = list[int](), 0
        for position in positions:
            item = self._items[position]
            text = item.text or ""
            spans = chunking.chunks(text, encoder.spans(text))
            if total + len(spans) > self._max_chunks:
                del self._items[position]
                error = LimitExceeded(
                    f"with this text, of {len(spans)} chunks, the request has more than {self._max_chunks}: send fewer "
                    "items, or make a collection with longer chunks",
                    field=f"items[{position}].text",
                    limit=self._max_chunks,
                    setting="max_chunks",
                )
                self.results[position] = ItemResult(position, item.id, ItemStatus.REJECTED, error)
                continue
            self._spans[position] = spans
            total += len(spans)
            kept.append(position)
        return kept

    def _parts(self, position: int) -> list[str]:
        """The text of each of its rows."""
        text, spans = self._items[position].text or "", self._spans.get(position)
        return [text] if spans is None else [text[slice(*span)] for span in spans]

    def _accepted(self, item: NewItem | Malformed, seen: set[str], field: str) -> NewItem:
        if isinstance(item, Malformed):
            raise item.error
        if item.id in seen:
            raise DuplicateId(item.id, field=f"{field}.id")
        seen.add(item.id)
        if item.vector is not None:
            if self._chunking is not None:
                raise InvalidInput(
                    "this collection cuts texts into chunks and makes a vector of each: leave the vector out, or take "
                    "a collection without chunking",
                    field=f"{field}.vector",
                )
            checked_vector(item.vector, self._dim, self._metric, f"{field}.vector")
            self._originals.checked(item.vector, f"{field}.vector")
        elif self._encoder is None:
            raise NoEncoder(self._collection, field=f"{field}.text")
        return item

    def _same(self, position: int, known: Mapping[str, Item]) -> bool:
        old = known.get(self._items[position].id)
        return old is not None and old.digest == self._digests[position]
