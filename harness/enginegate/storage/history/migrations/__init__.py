"""Alembic's migrations of a history: data of the package, run by ``storage.history.migrating``."""
