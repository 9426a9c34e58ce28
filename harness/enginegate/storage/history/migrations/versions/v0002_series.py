"""Series, by a digest over what is measured; what a change may come from with the run; notes of known changes.

Of runs that were written earlier, the model's digest and the method were not kept. Their series are of their own, by
the engine's name and the method ``not kept``; importing the runs' records again gives them their whole identity.
"""

import sqlalchemy as sa
from alembic import op

from enginegate.storage.history.identity import NOT_KEPT, SeriesKey

revision = "0002"
down_revision = "0001"

#: Names of other tools' benchmarks, and of tasks of lm-eval, are longer than those of our own figures.
WIDER = (
    ("measurements", "engine", 512),
    ("measurements", "workload", 256),
    ("measurements", "metric", 256),
    ("measurements", "unit", 32),
    ("engines", "engine", 512),
)


def upgrade() -> None:
    """Add the columns and tables, then give every stored figure its series."""
    op.add_column("runs", sa.Column("origin", sa.String(32), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("schema_version", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("enginegate", sa.String(64), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("environment", sa.Text, nullable=False, server_default="{}"))
    op.add_column("engines", sa.Column("role", sa.String(32), nullable=False, server_default=""))
    op.add_column("measurements", sa.Column("series", sa.String(32), nullable=False, server_default=""))
    op.create_index("ix_measurements_series", "measurements", ["series"])
    op.create_table(
        "series",
        sa.Column("digest", sa.String(32), primary_key=True),
        sa.Column("model_digest", sa.String(128), nullable=False),
        sa.Column("engine", sa.String(512), nullable=False, index=True),
        sa.Column("backend", sa.String(64), nullable=False),
        sa.Column("precision", sa.String(64), nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("runtime_digest", sa.String(64), nullable=False),
        sa.Column("workload", sa.String(256), nullable=False),
        sa.Column("metric", sa.String(256), nullable=False, index=True),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("machine", sa.String(128), nullable=False, index=True),
        sa.Column("method", sa.Text, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("series", sa.String(32), primary_key=True),
        sa.Column("run_id", sa.String(128), primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("written", sa.String(64), nullable=False),
    )
    if op.get_bind().dialect.name != "sqlite":  # which keeps to no length
        for table, column, length in WIDER:
            op.alter_column(table, column, type_=sa.String(length), existing_nullable=False)
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    """Write the series of what was stored before there were any."""
    stored = connection.execute(
        sa.text(
            "SELECT DISTINCT m.engine, m.workload, m.metric, m.unit, r.fingerprint, e.backend, e.precision, e.variant,"
            " e.runtime_digest FROM measurements m JOIN runs r ON r.id = m.run_id"
            " LEFT JOIN engines e ON e.run_id = m.run_id AND e.engine = m.engine"
        )
    ).all()
    for engine, workload, metric, unit, machine, backend, precision, variant, runtime in stored:
        key = SeriesKey(
            model_digest="",
            engine=engine,
            backend=backend or "",
            precision=precision or "",
            variant=variant or "",
            runtime_digest=runtime or "",
            workload=workload,
            metric=metric,
            unit=unit,
            machine=machine,
            method=NOT_KEPT,
        )
        known = connection.execute(sa.text("SELECT 1 FROM series WHERE digest = :digest"), {"digest": key.digest})
        if known.first() is None:
            columns = ", ".join(key.row())
            values = ", ".join(f":{name}" for name in key.row())
            connection.execute(sa.text(f"INSERT INTO series ({columns}) VALUES ({values})"), key.row())
        connection.execute(
            sa.text(
                "UPDATE measurements SET series = :digest WHERE engine = :engine AND workload = :workload"
                " AND metric = :metric AND unit = :unit"
                " AND run_id IN (SELECT id FROM runs WHERE fingerprint = :machine)"
                " AND COALESCE((SELECT e.runtime_digest FROM engines e WHERE e.run_id = measurements.run_id"
                " AND e.engine = measurements.engine), '') = :runtime_digest"
            ),
            key.row() | {"digest": key.digest},
        )
