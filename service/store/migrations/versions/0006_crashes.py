"""Jobs count the starts that ended without a word apart from those that were ended in order."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the count."""
    op.add_column("jobs", sa.Column("crashes", sa.Integer, nullable=False, server_default="0"))
