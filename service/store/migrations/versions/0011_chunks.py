"""Collections may cut long texts into chunks, each with a row of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Adds the columns; until now an item had one row."""
    op.add_column("collections", sa.Column("chunking", sa.JSON, nullable=True))
    op.add_column("collections", sa.Column("row_count", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("items", sa.Column("chunks", sa.LargeBinary, nullable=True))
    op.execute("UPDATE collections SET row_count = item_count")
