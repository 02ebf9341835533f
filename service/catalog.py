"""Which collections and aliases there are. Knows no items, no search and no HTTP."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock, Semaphore
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from models import Metric
from service.batch import Batch
from service.codec_spec import AutoSpec, CodecSpec, DenseSpec
from service.collection import Collection
from service.contract import ContractSpec
from service.errors import (
    AliasNotFound,
    CollectionExists,
    CollectionNotFound,
    Conflict,
    InvalidInput,
    LimitExceeded,
    QuotaExceeded,
)
from service.follower import MOST_WAITING
from service.item import Malformed, NewItem
from service.originals import Originals
from service.profile import Observer, unobserved
from service.receipt import Receipt, batch_rejected
from service.retrain import RetrainSpec
from service.rights import EVERYTHING, Rights
from service.snapshots import Snapshots
from service.store import queries, store
from service.store.database import Database
from service.store.tables import AliasRow, CollectionRow, GenerationRow
from service.terms import Terms, WriteMode
from service.text.chunking import MOST_CHUNKS, Chunking
from service.text.encoder import AbsentEncoder, TextEncoder


@dataclass(frozen=True)
class Description:
    """What a user is told of a collection."""

    name: str
    dimension: int
    metric: Metric
    encoder: str | None
    originals: Originals
    codec: Mapping[str, Any]
    contract: Mapping[str, Any] | None
    retrain: Mapping[str, Any] | None
    log_queries: bool
    chunking: Mapping[str, Any] | None
    items: int
    chunks: int | None
    """None where texts are not cut."""
    seq: int
    generation: int | None
    certificate: Mapping[str, Any] | None
    aliases: list[str]
    created_at: float


class Catalog:
    """Opens collections by name or alias; one object a collection and process."""

    def __init__(
        self,
        database: Database,
        encoders: Mapping[str, TextEncoder],
        computing: Semaphore,
        max_dimension: int,
        default_encoder: str | None,
        snapshots: Snapshots | None = None,
        max_collections: int = 0,
        *,
        max_chunks: int = MOST_CHUNKS,
        observe: Observer = unobserved,
    ) -> None:
        self._database = database
        self.encoders = encoders
        self._computing = computing
        self._max_dimension = max_dimension
        self._default_encoder = default_encoder
        self._snapshots = snapshots
        self._max_collections = max_collections
        self._max_chunks = max_chunks
        self._observe = observe
        self._opened: dict[int, Collection] = {}
        self._opening = Lock()
        self._waiting = Semaphore(MOST_WAITING)

    def open(self, name: str, field: str = "collection", rights: Rights = EVERYTHING) -> Collection:
        """The collection of that name or alias.

        Raises:
            CollectionNotFound; Forbidden: it is not within the rights, whether it exists or not.
        """
        with self._database.looking() as connection:
            named = store.name_of(connection, name)
        rights.require_collection(name if named is None else named[1], field, called=name)
        if named is None:
            raise CollectionNotFound(name, field=field)
        opened = self._opened.get(named[0])
        return opened if opened is not None else self._open(named[0], name, field)

    def _open(self, collection_id: int, name: str, field: str) -> Collection:
        with self._database.reading() as session:
            row = session.get(CollectionRow, collection_id)
        if row is None:  # deleted meanwhile
            raise CollectionNotFound(name, field=field)
        with self._opening:
            if row.id not in self._opened:
                encoder = self._encoder_of(row)
                self._opened[row.id] = Collection(
                    row,
                    self._database,
                    encoder,
                    self._computing,
                    self._snapshots,
                    self._waiting,
                    max_chunks=self._max_chunks,
                    observe=self._observe,
                )
            return self._opened[row.id]

    def _encoder_of(self, row: CollectionRow) -> TextEncoder | None:
        if row.encoder is None:
            return None
        encoder = self.encoders.get(row.encoder)
        if encoder is not None and encoder.identity == row.encoder_identity:
            return encoder
        return AbsentEncoder(row.encoder, row.encoder_identity or "", row.dimension, encoder)

    def ingest(self, name: str, items: Sequence[NewItem | Malformed], terms: Terms = Terms()) -> Receipt:  # noqa: B008
        """Ingests into the collection; where there is none, one is made for the first item with a vector, of its
        dimension, or with a text, for the default encoder. None is made where nothing can be kept.

        Raises:
            BatchRejected, BatchConflict, KeyReused: see Collection.ingest. CollectionNotFound: the terms are to update.
        """
        try:
            return self.open(name).ingest(items, terms)
        except CollectionNotFound:
            if terms.mode is WriteMode.UPDATE:
                raise
            text_encoder = self.encoders.get(self._default_encoder or "")
            usable = [item for item in items if isinstance(item, NewItem)]
            first = next((item for item in usable if item.vector is not None or text_encoder is not None), None)
        encoder = None if first is None or first.vector is not None else text_encoder
        dimension = first.vector.size if first is not None and first.vector is not None else 0
        dimension = encoder.dimension if encoder is not None else dimension
        trial = Batch(items, name, dimension, Metric.COSINE, encoder)
        if trial.results and terms.atomic:
            raise batch_rejected("the batch is atomic", trial.results.values())
        if not trial.ids:
            return Receipt(name, 0, trial.ordered_results())
        try:
            collection = self.create(name, dimension=dimension, encoder=encoder.name if encoder is not None else None)
        except CollectionExists:
            collection = self.open(name)  # another request made it in the meantime
        return collection.ingest(items, terms)

    def names(self) -> dict[int, str]:
        """Every collection's name, by its id."""
        with self._database.reading() as session:
            return dict(session.execute(select(CollectionRow.id, CollectionRow.name)).all())

    def heads(self) -> dict[int, store.Head]:
        """How far every collection's log goes."""
        with self._database.reading() as session:
            return store.heads(session)

    def opened(self) -> list[Collection]:
        """The collections that this process has views of."""
        with self._opening:
            return list(self._opened.values())

    def forget(self, collection_id: int) -> None:
        """Drops the view of a collection that was deleted."""
        with self._opening:
            self._opened.pop(collection_id, None)

    def create(
        self,
        name: str,
        *,
        dimension: int | None = None,
        metric: Metric = Metric.COSINE,
        encoder: str | None = None,
        codec: CodecSpec | None = None,
        contract: ContractSpec | None = None,
        retrain: RetrainSpec | None = None,
        log_queries: bool = False,
        originals: Originals = Originals.FLOAT32,
        chunking: Chunking | None = None,
    ) -> Collection:
        """Makes a collection; its dimension is the given one or its encoder's.

        Raises:
            CollectionExists, InvalidInput; BadConfig: no codec can be made so; QuotaExceeded: there are too many;
            OriginalsDropped: it cannot be trained again.
        """
        if retrain is not None:
            retrain.check(originals)
        codec = codec or DenseSpec()
        if encoder is not None and encoder not in self.encoders:
            raise InvalidInput(
                f"there is no encoder {encoder!r}; this server has {sorted(self.encoders)}", field="encoder"
            )
        if encoder is not None:
            encoded = self.encoders[encoder].dimension
            if dimension not in (None, encoded):
                raise InvalidInput(f"the encoder {encoder!r} makes vectors of {encoded} numbers", field="dimension")
            dimension = encoded
        if chunking is not None:
            chunking.check(None if encoder is None else self.encoders[encoder])
        if dimension is None:
            raise InvalidInput("give a dimension, or an encoder that has one", field="dimension")
        if not 1 <= dimension <= self._max_dimension:
            raise LimitExceeded(
                f"{dimension} is not between 1 and {self._max_dimension}",
                field="dimension",
                limit=self._max_dimension,
                setting="max_dimension",
            )
        if not isinstance(codec, AutoSpec):
            config = codec.config(dimension, metric)
            if contract is not None:
                contract.check(config, dimension)
        row = CollectionRow(
            name=name,
            dimension=dimension,
            metric=metric.value,
            encoder=encoder,
            encoder_identity=self.encoders[encoder].identity if encoder is not None else None,
            originals=originals.value,
            codec=codec.model_dump(mode="json"),
            contract=None if contract is None else contract.stored(),
            retrain=None if retrain is None else retrain.stored(),
            log_queries=log_queries,
            chunking=None if chunking is None else chunking.model_dump(),
            created_at=time.time(),
        )
        with self._database.naming() as session:
            if store.find_collection(session, name) is not None:
                raise CollectionExists(f"there is a collection or alias {name!r} already", field="name")
            if self._max_collections and _count(session) >= self._max_collections:
                raise QuotaExceeded(
                    f"there are {self._max_collections} collections, and no more may be made: delete one first; "
                    "CODEWELL_MAX_COLLECTIONS raises it",
                    field="name",
                )
            session.add(row)
        return self.open(name)

    def set_retrain(self, name: str, retrain: RetrainSpec | None) -> None:
        """Says when the collection is trained again without anybody asking; none for never.

        Raises:
            CollectionNotFound, OriginalsDropped
        """
        with self._database.writing() as session:
            row = store.found_collection(session, name, lock=True)
            if retrain is not None:
                retrain.check(Originals(row.originals))
            row.retrain = None if retrain is None else retrain.stored()

    def set_log_queries(self, name: str, log_queries: bool) -> None:
        """Says whether some of the queries that the collection is asked are kept.

        Raises:
            CollectionNotFound
        """
        with self._database.writing() as session:
            row = store.found_collection(session, name, lock=True)
            queries.set_logged(row, log_queries)

    def logged(self) -> dict[int, int]:
        """The collections whose queries are logged, by id, and their epochs: see `queries.epochs`."""
        with self._database.reading() as session:
            return queries.epochs(session)

    def retrained(self) -> dict[str, RetrainSpec]:
        """The policies of collections that have one and a codec, by name."""
        named = select(CollectionRow.name, CollectionRow.retrain).where(
            CollectionRow.retrain.is_not(None), CollectionRow.generation_id.is_not(None)
        )
        with self._database.reading() as session:
            return {name: RetrainSpec.model_validate(policy) for name, policy in session.execute(named)}

    def delete(self, name: str) -> None:
        """Removes a collection with everything in it.

        Raises:
            CollectionNotFound; Conflict: the name is an alias.
        """
        with self._database.naming() as session:
            row = session.scalars(select(CollectionRow).where(CollectionRow.name == name)).first()
            if row is None and (aliased := store.find_collection(session, name)) is not None:
                raise Conflict(
                    f"{name!r} is an alias of {aliased.name!r}: DELETE /aliases/{name} removes the alias, "
                    f"DELETE /collections/{aliased.name} the collection",
                    field="collection",
                )
            if row is None:
                raise CollectionNotFound(name, field="collection")
            session.execute(delete(CollectionRow).where(CollectionRow.id == row.id))
            collection_id = row.id
        self.forget(collection_id)

    def describe(self, name: str) -> Description:
        """One collection.

        Raises:
            CollectionNotFound
        """
        with self._database.reading() as session:
            return _described(session, store.found_collection(session, name))

    def list(self) -> list[Description]:
        """Every collection by name."""
        with self._database.reading() as session:
            rows = session.scalars(select(CollectionRow).order_by(CollectionRow.name))
            return [_described(session, row) for row in rows]

    def count(self) -> int:
        """How many collections there are."""
        with self._database.reading() as session:
            return _count(session)

    def aliases(self) -> dict[str, str]:
        """Every alias and the collection it stands for."""
        statement = select(AliasRow.name, CollectionRow.name).join(
            CollectionRow, CollectionRow.id == AliasRow.collection_id
        )
        with self._database.reading() as session:
            return dict(session.execute(statement.order_by(AliasRow.name)).all())

    def point_alias(self, alias: str, name: str) -> None:
        """Makes `alias` stand for a collection, at once and for every process; it may stand for another one so far.

        Raises:
            CollectionNotFound, CollectionExists
        """
        with self._database.naming() as session:
            if session.scalars(select(CollectionRow).where(CollectionRow.name == alias)).first() is not None:
                raise CollectionExists(f"there is a collection {alias!r} already", field="alias")
            row = store.found_collection(session, name)
            session.merge(AliasRow(name=alias, collection_id=row.id))

    def remove_alias(self, alias: str) -> None:
        """Removes an alias; its collection stays.

        Raises:
            AliasNotFound
        """
        with self._database.naming() as session:
            row = session.get(AliasRow, alias)
            if row is None:
                raise AliasNotFound(f"there is no alias {alias!r}; GET /aliases lists them", field="alias")
            session.delete(row)


def _count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(CollectionRow)) or 0


def _described(session: Session, row: CollectionRow) -> Description:
    generation = session.get(GenerationRow, row.generation_id) if row.generation_id is not None else None
    aliases = session.scalars(select(AliasRow.name).where(AliasRow.collection_id == row.id).order_by(AliasRow.name))
    return Description(
        name=row.name,
        dimension=row.dimension,
        metric=Metric(row.metric),
        encoder=row.encoder,
        originals=Originals(row.originals),
        codec=row.codec,
        contract=row.contract,
        retrain=row.retrain,
        log_queries=row.log_queries,
        chunking=row.chunking,
        items=row.item_count,
        chunks=None if row.chunking is None else row.row_count,
        seq=row.seq,
        generation=row.generation_id,
        certificate=generation.certificate if generation is not None else None,
        aliases=list(aliases),
        created_at=row.created_at,
    )
