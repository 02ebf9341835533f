"""Collections may have their codec trained again by themselves, and such a job says why it began."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Adds the columns; until now every later training was asked for."""
    op.add_column("collections", sa.Column("retrain", sa.JSON, nullable=True))
    op.add_column("jobs", sa.Column("reason", sa.JSON, nullable=True))
