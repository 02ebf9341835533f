"""Jobs say which runner has them, so that several servers can share a database."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the lease."""
    op.add_column("jobs", sa.Column("owner", sa.String(255)))
    op.add_column("jobs", sa.Column("beat", sa.Integer, nullable=False, server_default="0"))
