"""The database knows the snapshots of views that were made of it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds the table."""
    collection = sa.ForeignKey("collections.id", ondelete="CASCADE")
    op.create_table(
        "snapshots",
        sa.Column("collection_id", sa.Integer, collection, primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
    )
