"""Runs, their figures and their engines.

Histories that were written before there were migrations have these tables: they are adopted as they are. The oldest of
them have no table of engines.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables that are not there."""
    there = set(sa.inspect(op.get_bind()).get_table_names())
    if "runs" not in there:
        op.create_table(
            "runs",
            sa.Column("id", sa.String(128), primary_key=True),
            sa.Column("started", sa.String(64), nullable=False, index=True),
            sa.Column("commit_id", sa.String(64), nullable=False),
            sa.Column("fingerprint", sa.String(128), nullable=False),
            sa.Column("model", sa.String(128), nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("record", sa.Text, nullable=False),
        )
    run = ("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"))
    if "measurements" not in there:
        op.create_table(
            "measurements",
            sa.Column(run[0], sa.String(128), run[1], primary_key=True),
            sa.Column("engine", sa.String(256), primary_key=True),
            sa.Column("workload", sa.String(64), primary_key=True),
            sa.Column("metric", sa.String(64), primary_key=True, index=True),
            sa.Column("unit", sa.String(16), nullable=False),
            sa.Column("value", sa.Float),
            sa.Column("low", sa.Float),
            sa.Column("high", sa.Float),
            sa.Column("verdict", sa.String(16), nullable=False),
        )
    if "engines" not in there:
        op.create_table(
            "engines",
            sa.Column(run[0], sa.String(128), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
            sa.Column("engine", sa.String(256), primary_key=True),
            sa.Column("backend", sa.String(64), nullable=False),
            sa.Column("precision", sa.String(64), nullable=False),
            sa.Column("variant", sa.String(64), nullable=False),
            sa.Column("runtime_digest", sa.String(64), nullable=False),
            sa.Column("engine_key", sa.String(64), nullable=False),
            sa.Column("version", sa.Text, nullable=False),
        )
