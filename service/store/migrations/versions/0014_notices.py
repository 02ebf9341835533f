"""What an operator's endpoint is to be told waits in the database, and a collection knows which drift it told last."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Adds the table and the column; of what ended before nothing is told."""
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.add_column("collections", sa.Column("told_drift", sa.JSON, nullable=True))
