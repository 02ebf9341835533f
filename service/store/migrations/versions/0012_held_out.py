"""Generations know which rows they were measured by: a cut of their codes is measured by them too."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Adds the column; of older generations it is not known."""
    op.add_column("generations", sa.Column("held_out", sa.LargeBinary, nullable=True))
