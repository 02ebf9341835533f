"""The tables of Codewell 0.1, from before there were migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables; SQLite keeps every whole number in 64 bits, whatever its column says."""
    op.create_table(
        "collections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("metric", sa.String(16), nullable=False),
        sa.Column("encoder", sa.String(64)),
        sa.Column("encoder_identity", sa.String(255)),
        sa.Column("codec", sa.JSON, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("item_count", sa.Integer, nullable=False),
        sa.Column("generation_id", sa.Integer),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(255), primary_key=True),
        _of("collections", index=True),
    )
    op.create_table(
        "items",
        _of("collections", primary_key=True),
        sa.Column("item_id", sa.String(512), primary_key=True),
        sa.Column("row_id", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.create_index("items_by_row", "items", ["collection_id", "row_id"], unique=True)
    op.create_table(
        "rows",
        _of("collections", primary_key=True),
        sa.Column("row_id", sa.BigInteger, primary_key=True),
        sa.Column("vector", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "changes",
        _of("collections", primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("row_id", sa.BigInteger),
        sa.Column("old_row_id", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.Integer, primary_key=True),
        _of("collections", index=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("codec", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("certificate", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "codes",
        _of("generations", primary_key=True),
        sa.Column("row_id", sa.BigInteger, primary_key=True),
        sa.Column("code", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        _of("collections", index=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
    )
    op.create_table(
        "pictures",
        sa.Column(
            "job_id", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, nullable=False
        ),
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("png", sa.LargeBinary, nullable=False),
    )


def _of(table: str, *, primary_key: bool = False, index: bool = False) -> sa.Column[int]:
    """The column that names a row of `table`, and goes with it."""
    owner = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    name = f"{table.removesuffix('s')}_id"
    return sa.Column(name, sa.Integer, owner, primary_key=primary_key, nullable=False, index=index)
