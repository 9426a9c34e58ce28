"""Which schema a history has, and making the newest of an older one or of none."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from enginegate.core.errors import RecordError
from enginegate.storage.history.tables import HEAD, RUNS, VERSION_TABLE

#: The name of PostgreSQL's lock of a migration: any number that nothing else takes.
_LOCK = 7_031_977


def stored_schema(connection: Connection) -> str | None:
    """The newest migration that was made; "" in a history from before there were any; None where there is none."""
    tables = sa.inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        if found is not None:
            return str(found)
    return "" if RUNS.name in tables else None


def refuse_another_schema(connection: Connection, shown: str) -> None:
    """Raise RecordError unless a history has the schema that this version reads. A reader migrates nothing."""
    found = stored_schema(connection)
    if found is None:
        raise RecordError(
            f"history {shown} is empty: nothing was ever written to it",
            "run pytest with --history, or `enginegate history import` records",
        )
    if found != HEAD:
        _refuse_newer(found, shown)
        raise RecordError(
            f"history {shown} has schema {found or '0001, of before there were migrations'}, this version reads {HEAD}",
            "`enginegate history upgrade` migrates it, as the next session that writes to it does",
        )


def migrate(connection: Connection, shown: str) -> bool:
    """Bring a history to the newest schema, within the transaction and lock of ``connection``; whether it had another.

    Raises RecordError for a history of a newer version, or where Alembic is not installed.
    """
    if stored_schema(connection) == HEAD:
        return False
    if connection.dialect.name == "postgresql":  # SQLite's transaction holds the lock already
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    found = stored_schema(connection)  # another writer may have been here while this one waited
    if found == HEAD:
        return False
    _refuse_newer(found or "", shown)
    try:
        from alembic import command
        from alembic.config import Config
    except ImportError as error:
        raise RecordError(
            f"history {shown} cannot be made or migrated: Alembic is not installed", "pip install alembic"
        ) from error
    config = Config()
    config.set_main_option("script_location", "enginegate.storage.history:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
    return True


def _refuse_newer(found: str, shown: str) -> None:
    if found > HEAD:
        raise RecordError(
            f"history {shown} has schema {found}, which is newer than this version's {HEAD}",
            "update enginegate here, or name another history",
        )
