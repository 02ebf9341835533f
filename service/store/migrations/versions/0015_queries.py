"""Collections may keep queries that their codecs are measured by, and log some of those that they are asked."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Adds the table and the columns; nothing is logged where nobody has said so."""
    op.create_table(
        "queries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "collection_id", sa.Integer, sa.ForeignKey("collections.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("logged", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.add_column("collections", sa.Column("query_epoch", sa.Integer, nullable=False, server_default="0"))
    op.add_column("collections", sa.Column("log_queries", sa.Boolean, nullable=False, server_default=sa.false()))
