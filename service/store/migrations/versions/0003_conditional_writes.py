"""Items know their last change, and receipts are kept for requests that are sent again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds both. Of older items the change that brought their vector is known, not a later one of metadata alone."""
    op.add_column("items", sa.Column("seq", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE items SET seq = row_id")
    op.create_table(
        "receipts",
        sa.Column(
            "collection_id",
            sa.Integer,
            sa.ForeignKey("collections.id", ondelete="CASCADE"),
            primary_key=True,
            nullable=False,
        ),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("body", sa.LargeBinary(16), nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
