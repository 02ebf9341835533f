"""A batch of items on its way in: which can be kept, their vectors and codes, what is to be written. Knows no SQL."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models import Codec, Metric, Vectors
from service.errors import DuplicateId, InvalidInput, NoEncoder
from service.item import Malformed, NewItem, canonical, checked_vector
from service.originals import Originals
from service.receipt import ItemResult, ItemStatus
from service.store.store import Item, Write
from service.terms import WriteMode, broken
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
    ) -> None:
        self._collection = collection
        self._dim = dim
        self._metric = metric
        self._encoder = encoder
        self._mode = mode
        self._originals = originals
        self.results: dict[int, ItemResult] = {}
        self._items: dict[int, NewItem] = {}
        seen: set[str] = set()
        for position, item in enumerate(items):
            try:
                self._items[position] = self._accepted(item, seen, f"items[{position}]")
            except InvalidInput as error:
                self.results[position] = ItemResult(position, item.id, ItemStatus.REJECTED, error)
        self._digests = {position: item.digest() for position, item in self._items.items()}
        self._place: dict[int, int] = {}
        """Where an encoded item's vector stands in `_vectors`."""
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
        self._place = {position: place for place, position in enumerate(fresh)}
        self._vectors = np.zeros((len(fresh), self._dim), np.float32)
        texts: dict[int, str] = {}
        for position in fresh:
            item = self._items[position]
            if item.vector is not None:
                self._vectors[self._place[position]] = item.vector
            else:
                texts[position] = item.text or ""
        if texts and self._encoder is not None:
            encoded = self._encoder.encode(list(texts.values()))
            self._vectors[[self._place[position] for position in texts]] = encoded.vectors
            warned = zip(texts, encoded.warnings, strict=True)
            self._warnings = {position: warning for position, warning in warned if warning is not None}
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
            if not same and position not in self._place:
                return None
            status = ItemStatus.INSERTED if old is None else ItemStatus.UPDATED
            if same and old is not None and old.metadata == metadata:
                status = ItemStatus.UNCHANGED
            else:
                place = None if same else self._place[position]
                code = None if place is None or self._codes is None else self._codes[place].tobytes()
                dropped = code is not None and self._originals is Originals.DROP
                stored = self._vectors.astype(self._originals.stored_as, copy=False)
                vector = None if place is None or dropped else stored[place].tobytes()
                writes.append(Write(item.id, self._digests[position], item.text, metadata, vector, code))
            self.results[position] = ItemResult(position, item.id, status, warning=self._warnings.get(position))
        return writes

    def refused(self) -> list[ItemResult]:
        """Those that are not written."""
        return [result for result in self.results.values() if result.error is not None]

    def ordered_results(self) -> list[ItemResult]:
        """One a position."""
        return [self.results[position] for position in sorted(self.results)]

    def _accepted(self, item: NewItem | Malformed, seen: set[str], field: str) -> NewItem:
        if isinstance(item, Malformed):
            raise item.error
        if item.id in seen:
            raise DuplicateId(item.id, field=f"{field}.id")
        seen.add(item.id)
        if item.vector is not None:
            checked_vector(item.vector, self._dim, self._metric, f"{field}.vector")
            self._originals.checked(item.vector, f"{field}.vector")
        elif self._encoder is None:
            raise NoEncoder(self._collection, field=f"{field}.text")
        return item

    def _same(self, position: int, known: Mapping[str, Item]) -> bool:
        old = known.get(self._items[position].id)
        return old is not None and old.digest == self._digests[position]
