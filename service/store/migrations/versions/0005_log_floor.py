"""Logs are cut: collections say where theirs begins."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the floor, below every log that there is."""
    op.add_column("collections", sa.Column("floor_seq", sa.BigInteger, nullable=False, server_default="0"))
