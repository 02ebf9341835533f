"""Collections and generations have contracts: the oversample that one was tuned to, and when it was published."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the columns; published generations were so from their beginning."""
    op.add_column("collections", sa.Column("contract", sa.JSON, nullable=True))
    op.add_column("generations", sa.Column("oversample", sa.Integer, nullable=False, server_default="10"))
    op.add_column("generations", sa.Column("published_at", sa.Double, nullable=True))
    op.execute("UPDATE generations SET published_at = created_at WHERE state = 'published'")
