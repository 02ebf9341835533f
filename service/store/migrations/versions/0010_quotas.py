"""Collections know how many bytes they keep, and API keys how much they may take."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

SIZE = """
UPDATE collections SET stored_bytes = COALESCE((
    SELECT SUM({bytes}(item_id) + COALESCE({bytes}(text), 0) + {bytes}(metadata)) FROM items
    WHERE collection_id = collections.id
), 0) + item_count * dimension * CASE originals WHEN 'float32' THEN 4 WHEN 'float16' THEN 2 ELSE 0 END
"""


def upgrade() -> None:
    """Adds the columns, and counts what is there."""
    op.add_column("collections", sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default="0"))
    for name, kind in (("rate", sa.Double), ("max_items", sa.BigInteger), ("max_bytes", sa.BigInteger)):
        op.add_column("keys", sa.Column(name, kind, nullable=True))
    if op.get_bind().dialect.name == "sqlite":  # whose octet_length is newer than many that are in use
        statement = SIZE.replace("{bytes}(item_id)", "length(CAST(item_id AS BLOB))")
        statement = statement.replace("{bytes}(text)", "length(CAST(text AS BLOB))")
        statement = statement.replace("{bytes}(metadata)", "length(CAST(metadata AS BLOB))")
    else:
        statement = SIZE.replace("{bytes}", "octet_length")
    op.execute(statement)
