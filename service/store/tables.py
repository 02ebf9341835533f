"""The tables. Knows no statements: what is asked of them is in store.py.

`seq` counts a collection's changes. A `row_id` is the seq of the change that brought the vector: never reused, and
ascending, so that the order of rows is the order of the log.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text, sql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Where the tables register."""


class CollectionRow(Base):
    """A named set of items with one dimension and one metric."""

    __tablename__ = "collections"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    dimension: Mapped[int]
    metric: Mapped[str] = mapped_column(String(16))
    encoder: Mapped[str | None] = mapped_column(String(64))
    encoder_identity: Mapped[str | None] = mapped_column(String(255))
    """Which model: what encoded the items must encode the queries."""
    originals: Mapped[str] = mapped_column(String(8), default="float32", server_default="float32")
    """How vectors are kept: float32, float16, or dropped once they have codes."""
    codec: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What to train: kind and configuration."""
    contract: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What a training must keep to be published; none where anything will do."""
    retrain: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """When it is trained again without anybody asking; none for never."""
    log_queries: Mapped[bool] = mapped_column(default=False, server_default=sql.false())
    """Whether some of the queries that it is asked are kept, to measure codecs by."""
    query_epoch: Mapped[int] = mapped_column(default=0, server_default="0")
    """Counted on whenever what was asked until then is not to be kept."""
    told_drift: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The generation and the status of the drift that an operator's endpoint was told last; none where it was not."""
    chunking: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """How texts are cut into chunks, each with a vector of its own; none where an item has one vector."""
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    """The last change; the next one takes seq + 1, under this row's lock."""
    floor_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """The log begins after it: a view that has not come so far is made anew."""
    item_count: Mapped[int] = mapped_column(default=0)
    row_count: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Vectors of its items: as many as items where texts are not cut into chunks."""
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Of its items' ids, texts, metadata and vectors; codes, log and indexes come on top."""
    generation_id: Mapped[int | None]
    """The published generation; none until the first training."""
    created_at: Mapped[float]


class AliasRow(Base):
    """Another name for a collection."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)


class ItemRow(Base):
    """The current content of one item."""

    __tablename__ = "items"
    __table_args__ = (Index("items_by_row", "collection_id", "row_id", unique=True),)

    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    item_id: Mapped[str] = mapped_column(String(512), primary_key=True)
    row_id: Mapped[int] = mapped_column(BigInteger)
    """Its row, or that of its first chunk: those of the others follow on it."""
    chunks: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Where each of its chunks begins and ends in the text: two uint32 a chunk, little-endian; none where the
    collection does not cut texts."""
    digest: Mapped[bytes] = mapped_column(LargeBinary(16))
    """Of text and given vector: an ingest that repeats it changes nothing."""
    text: Mapped[str | None] = mapped_column(Text)
    item_metadata: Mapped[str] = mapped_column("metadata", Text)
    """JSON with sorted keys."""
    created_at: Mapped[float]
    updated_at: Mapped[float]
    seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The item's last change, of vector or metadata."""


class ReceiptRow(Base):
    """What a request with an idempotency key was answered, for as long as it may be sent again."""

    __tablename__ = "receipts"

    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary(16))
    """A digest of the request's body: another body under the same key is another request."""
    receipt: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]


class VectorRow(Base):
    """One version of an item's vector: float32 or float16, little-endian."""

    __tablename__ = "rows"

    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    row_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class ChangeRow(Base):
    """The log: what each seq did."""

    __tablename__ = "changes"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy's own form

    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    """insert, update or delete; chunk for what the same write does to each further row of the item"""
    row_id: Mapped[int | None] = mapped_column(BigInteger)
    """The row that is now the item's; none for a delete."""
    old_row_id: Mapped[int | None] = mapped_column(BigInteger)
    """The row that is no more; none for an insert and where only metadata changed."""


class GenerationRow(Base):
    """One immutable codec of a collection and what was measured of it."""

    __tablename__ = "generations"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    """building, published, kept, refused or retired"""
    codec: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    fingerprint: Mapped[str] = mapped_column(String(16))
    certificate: Mapped[dict[str, Any]] = mapped_column(JSON)
    held_out: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """Rows that the codec was not trained on and that it was measured by: int64, little-endian."""
    oversample: Mapped[int] = mapped_column(default=10, server_default="10")
    """Of searches that name none."""
    created_at: Mapped[float]
    published_at: Mapped[float | None]
    """The last time; none where it never was."""


class CodeRow(Base):
    """A row's code in one generation."""

    __tablename__ = "codes"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy's own form

    generation_id: Mapped[int] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    row_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    code: Mapped[bytes] = mapped_column(LargeBinary)


class QueryRow(Base):
    """A query that codecs are measured by: one that somebody gave, or one of those that were asked."""

    __tablename__ = "queries"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """float32, little-endian; its text is not kept."""
    logged: Mapped[bool]
    created_at: Mapped[float]


class SnapshotRow(Base):
    """A snapshot of a view that was made of this database: one made of another, or of a later state, is not here."""

    __tablename__ = "snapshots"

    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of its manifest, which has the checksums of its files."""


class JobRow(Base):
    """Work outside the request: who asked for what, how far it is, how it ended."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The drift that it was begun for, and the collection's seq at that; none where somebody asked for the job."""
    state: Mapped[str] = mapped_column(String(16), index=True)
    """queued, running, succeeded, failed or cancelled"""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    starts: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0, server_default="0")
    """Starts that ended without a word."""
    owner: Mapped[str | None] = mapped_column(String(255))
    """The runner that has it, while it runs."""
    beat: Mapped[int] = mapped_column(default=0, server_default="0")
    """Counted on by that runner; one that stands still belongs to a machine that is gone."""
    progress: Mapped[float] = mapped_column(default=0.0)
    message: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]


class PictureRow(Base):
    """A picture that a job drew of what it made."""

    __tablename__ = "pictures"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    png: Mapped[bytes] = mapped_column(LargeBinary)


class NoticeRow(Base):
    """Something that an operator's endpoint is yet to be told. It outlives the collection that it is about."""

    __tablename__ = "notices"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending, and never reused: the order in which they are sent."""
    message_id: Mapped[str] = mapped_column(String(36))
    """What the endpoint knows it by: the same at every attempt, and no other's in any database."""
    body: Mapped[str] = mapped_column(Text)
    """JSON, as it is signed and sent."""
    created_at: Mapped[float]
    attempts: Mapped[int] = mapped_column(default=0)
    """To send it; those that were begun."""
    next_at: Mapped[float]
    """No attempt before that: one is under way, or has failed."""


class KeyRow(Base):
    """An API key, of which only a digest is kept. A revoked one stays: who had access is still known."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    """The public part of the key."""
    name: Mapped[str] = mapped_column(String(128))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of the secret part: of 32 random bytes, which nobody finds by trying, however fast the hash is."""
    scope: Mapped[str] = mapped_column(String(8))
    """read, write or admin"""
    collections: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Names of those that it reaches; none for all."""
    rate: Mapped[float | None]
    """Requests a second; none for any number."""
    max_items: Mapped[int | None] = mapped_column(BigInteger)
    """In the collections that it reaches; none for what the settings say."""
    max_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
