"""How a history is laid out: its tables, as the newest migration leaves them.

What is measured has its row in ``series``; what a change may come from (commit, libraries, driver, build) lies with the
run and its engines, so that a series goes on across it.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

#: The newest migration, by its id in ``migrations/versions``; what a reader needs, and a writer makes.
HEAD = "0002"
#: Where Alembic keeps the id of the newest migration that was made.
VERSION_TABLE = "alembic_version"

METADATA = MetaData()

RUNS = Table(
    "runs",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("started", String(64), nullable=False, index=True),
    Column("commit_id", String(64), nullable=False),
    Column("fingerprint", String(128), nullable=False),
    Column("model", String(128), nullable=False),
    Column("status", String(16), nullable=False),
    Column("record", Text, nullable=False),
    Column("origin", String(32), nullable=False, server_default=""),
    Column("schema_version", Integer, nullable=False, server_default="0"),
    Column("enginegate", String(64), nullable=False, server_default=""),
    Column("environment", Text, nullable=False, server_default="{}"),
)

#: What is measured; see ``identity.SeriesKey``. ``digest`` is made of its other columns.
SERIES = Table(
    "series",
    METADATA,
    Column("digest", String(32), primary_key=True),
    Column("model_digest", String(128), nullable=False),
    Column("engine", String(512), nullable=False, index=True),
    Column("backend", String(64), nullable=False),
    Column("precision", String(64), nullable=False),
    Column("variant", String(64), nullable=False),
    Column("runtime_digest", String(64), nullable=False),
    Column("workload", String(256), nullable=False),
    Column("metric", String(256), nullable=False, index=True),
    Column("unit", String(32), nullable=False),
    Column("machine", String(128), nullable=False, index=True),
    Column("method", Text, nullable=False),
)

MEASUREMENTS = Table(
    "measurements",
    METADATA,
    Column("run_id", ForeignKey(RUNS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("engine", String(512), primary_key=True),
    Column("workload", String(256), primary_key=True),
    Column("metric", String(256), primary_key=True, index=True),
    Column("unit", String(32), nullable=False),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    Column("verdict", String(16), nullable=False),
    Column("series", String(32), nullable=False, server_default="", index=True),
)

#: Which engine, and which build of it, the figures of a run are of; see core.identity.EngineRef.
ENGINES = Table(
    "engines",
    METADATA,
    Column("run_id", ForeignKey(RUNS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("engine", String(512), primary_key=True),
    Column("backend", String(64), nullable=False),
    Column("precision", String(64), nullable=False),
    Column("variant", String(64), nullable=False),
    Column("runtime_digest", String(64), nullable=False),
    Column("engine_key", String(64), nullable=False),
    Column("version", Text, nullable=False),
    Column("role", String(32), nullable=False, server_default=""),
)

#: Changes that are known, each with its reason. ``series`` is a digest; a change of many series has a row for each.
NOTES = Table(
    "notes",
    METADATA,
    Column("series", String(32), primary_key=True),
    Column("run_id", String(128), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("written", String(64), nullable=False),
)
