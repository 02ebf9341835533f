"""Collections say how they keep the vectors that came in."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the setting; collections from before it keep float32."""
    op.add_column("collections", sa.Column("originals", sa.String(8), nullable=False, server_default="float32"))
