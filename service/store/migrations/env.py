"""Run by Alembic: migrates over the connection, and within the transaction, that `schema.upgrade` holds."""

from alembic import context

from service.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
