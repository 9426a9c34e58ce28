"""Writing runs to a history and reading series from it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from enginegate.core.errors import RecordError
from enginegate.core.records import RunRecord
from enginegate.storage.history.database import read, write
from enginegate.storage.history.entries import (
    Entry,
    Figure,
    HistoryEngine,
    HistoryRun,
    Note,
    Point,
    Series,
    Snapshot,
    canonical,
    entry_of,
    ordered,
)
from enginegate.storage.history.identity import SeriesKey
from enginegate.storage.history.tables import ENGINES, MEASUREMENTS, NOTES, RUNS, SERIES

#: How many runs are written in one transaction of an import: others wait no longer than these take.
_AT_ONCE = 50


@dataclass(frozen=True)
class Wanted:
    """Which series are asked for; "" asks for all. ``engine``, ``machine``: a part of the name is enough, in any case.

    ``series``: the beginning of a digest.
    """

    engine: str = ""
    metric: str = ""
    workload: str = ""
    machine: str = ""
    precision: str = ""
    backend: str = ""
    series: str = ""


@dataclass(frozen=True)
class Added:
    """What became of the runs that were written: new ones, those that replaced an older state, those that were there.

    ``kept``: ids of whole runs that a partial state of the same run did not replace.
    """

    new: int = 0
    replaced: int = 0
    same: int = 0
    kept: tuple[str, ...] = ()

    def __add__(self, other: Added) -> Added:
        """Both together."""
        return Added(
            self.new + other.new, self.replaced + other.replaced, self.same + other.same, self.kept + other.kept
        )


def append(record: RunRecord, url: str, location: str = "") -> None:
    """Add a run and its figures. Doing so again with the same run replaces it, so that nothing counts twice.

    Args:
        record: the run.
        url: SQLAlchemy URL.
        location: path or address of the run record's JSON, kept beside the run.

    Raises:
        RecordError: the database cannot be reached or written.
    """
    entry = entry_of(record, location)
    write(url, lambda connection: _replace(connection, entry))


def add(entries: Sequence[Entry], url: str) -> Added:
    """Add runs. A run that is there already is written where it differs, and never a partial one over a whole one.

    Raises RecordError.
    """
    added = Added()
    for start in range(0, len(entries), _AT_ONCE):
        part = entries[start : start + _AT_ONCE]
        added += write(url, lambda connection, part=part: _merge(connection, part))  # type: ignore[misc]
    return added


def upgrade(url: str) -> None:
    """Make a history, or bring it to the newest schema. Raises RecordError."""
    write(url, lambda _: None)


def annotate(url: str, notes: Iterable[Note]) -> None:
    """Keep notes of known changes; one for the same series and run takes the other's place. Raises RecordError."""
    write(url, lambda connection: _note(connection, tuple(notes)))


def note_now(series: str, run: str, reason: str) -> Note:
    """A note that is written now."""
    return Note(series, run, reason, datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"))


def load(url: str, wanted: Wanted | None = None) -> Snapshot:
    """The series that are wanted, with their runs and notes. Reads alone. Raises RecordError."""
    return read(url, lambda connection: _snapshot(connection, wanted or Wanted()))


def entries(url: str) -> tuple[list[Entry], list[Note]]:
    """All that a history holds, run by run, in the order of time. Reads alone. Raises RecordError."""
    return read(url, lambda connection: (_entries(connection, None), _notes(connection)))


def _merge(connection: Connection, part: Sequence[Entry]) -> Added:
    stored = {each.run.id: each for each in _entries(connection, [entry.run.id for entry in part])}
    added = Added()
    for entry in part:
        known = stored.get(entry.run.id)
        if known is None:
            added += Added(new=1)
        elif canonical(known) == canonical(entry):
            added += Added(same=1)
            continue
        elif known.run.status == "complete" and entry.run.status != "complete":
            added += Added(kept=(entry.run.id,))
            continue
        else:
            added += Added(replaced=1)
        _replace(connection, entry)
        stored[entry.run.id] = entry
    return added


def _replace(connection: Connection, entry: Entry) -> None:
    run = entry.run
    connection.execute(delete(MEASUREMENTS).where(MEASUREMENTS.c.run_id == run.id))
    connection.execute(delete(ENGINES).where(ENGINES.c.run_id == run.id))
    connection.execute(delete(RUNS).where(RUNS.c.id == run.id))
    connection.execute(
        insert(RUNS).values(
            id=run.id,
            started=run.started,
            commit_id=run.commit,
            fingerprint=run.machine,
            model=run.model,
            status=run.status,
            record=run.record,
            origin=run.origin,
            schema_version=run.schema,
            enginegate=run.enginegate,
            environment=json.dumps(dict(run.environment), sort_keys=True, ensure_ascii=False),
        )
    )
    # In one order everywhere: two writers of the same new series then wait for each other, and never in a circle.
    _insert_new(
        connection, SERIES, [row for _, row in sorted({f.key.digest: f.key.row() for f in entry.figures}.items())]
    )
    rows = [
        {
            "run_id": run.id,
            "engine": figure.key.engine,
            "workload": figure.key.workload,
            "metric": figure.key.metric,
            "unit": figure.key.unit,
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "verdict": figure.verdict,
            "series": figure.key.digest,
        }
        for figure in entry.figures
    ]
    if rows:
        connection.execute(insert(MEASUREMENTS), rows)
    if entry.engines:
        connection.execute(insert(ENGINES), [{"run_id": run.id, **vars(engine)} for engine in entry.engines])


def _insert_new(connection: Connection, table: Any, rows: list[dict[str, str]]) -> None:
    """Insert rows whose key is not there yet, also where another writer adds the same ones now."""
    if not rows:
        return
    if connection.dialect.name in ("sqlite", "postgresql"):
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)
        return
    known = set(connection.scalars(select(table.c.digest).where(table.c.digest.in_([row["digest"] for row in rows]))))
    fresh = [row for row in rows if row["digest"] not in known]
    if fresh:
        connection.execute(insert(table), fresh)


def _note(connection: Connection, notes: Sequence[Note]) -> None:
    for note in notes:
        where = (NOTES.c.series == note.series) & (NOTES.c.run_id == note.run)
        done = connection.execute(update(NOTES).where(where).values(reason=note.reason, written=note.written))
        if done.rowcount == 0:
            connection.execute(
                insert(NOTES).values(series=note.series, run_id=note.run, reason=note.reason, written=note.written)
            )


def _notes(connection: Connection) -> list[Note]:
    query = select(NOTES.c.series, NOTES.c.run_id, NOTES.c.reason, NOTES.c.written)
    return [Note(*row) for row in connection.execute(query.order_by(NOTES.c.series, NOTES.c.run_id))]


_RUN = (
    RUNS.c.id,
    RUNS.c.started,
    RUNS.c.commit_id,
    RUNS.c.fingerprint,
    RUNS.c.model,
    RUNS.c.status,
    RUNS.c.record,
    RUNS.c.origin,
    RUNS.c.schema_version,
    RUNS.c.enginegate,
    RUNS.c.environment,
)
_KEY = tuple(column for column in SERIES.c if column.name != "digest")


def _run(row: Sequence[Any]) -> HistoryRun:
    try:
        environment = json.loads(row[10])
    except ValueError as error:
        raise RecordError(
            f"the environment of run {row[0]} is no JSON: {error}", "import the run's record again"
        ) from error
    named = {str(name): str(value) for name, value in dict(environment).items()}
    return replace(HistoryRun(*row[:10]), environment=named)


def _snapshot(connection: Connection, wanted: Wanted) -> Snapshot:
    query = select(SERIES.c.digest, *_KEY).order_by(
        SERIES.c.engine, SERIES.c.workload, SERIES.c.metric, SERIES.c.machine, SERIES.c.digest
    )
    for column, exact in (
        (SERIES.c.metric, wanted.metric),
        (SERIES.c.workload, wanted.workload),
        (SERIES.c.precision, wanted.precision),
        (SERIES.c.backend, wanted.backend),
    ):
        query = query.where(column == exact) if exact else query
    for column, part in ((SERIES.c.engine, wanted.engine), (SERIES.c.machine, wanted.machine)):
        # In small letters on either side: SQLite compares so anyway, PostgreSQL does not.
        query = query.where(func.lower(column).contains(part.lower(), autoescape=True)) if part else query
    if wanted.series:
        query = query.where(SERIES.c.digest.startswith(wanted.series, autoescape=True))
    keys = {digest: SeriesKey(*key) for digest, *key in connection.execute(query)}
    columns = MEASUREMENTS.c
    figures = (
        select(
            columns.series,
            columns.run_id,
            columns.value,
            columns.low,
            columns.high,
            columns.verdict,
            ENGINES.c.engine_key,
            ENGINES.c.version,
            ENGINES.c.role,
        )
        .join(RUNS, RUNS.c.id == columns.run_id)
        .outerjoin(ENGINES, (ENGINES.c.run_id == columns.run_id) & (ENGINES.c.engine == columns.engine))
        .order_by(RUNS.c.started, RUNS.c.id)
    )
    if wanted != Wanted():
        figures = figures.where(columns.series.in_(list(keys))) if len(keys) <= 500 else figures
    points: dict[str, list[Point]] = {digest: [] for digest in keys}
    roles: dict[str, str] = {}
    used = set()
    for digest, run, value, low, high, verdict, key, version, role in connection.execute(figures):
        if digest in points:
            points[digest].append(Point(run, value, low, high, verdict, key or "", version or ""))
            roles[digest] = role or ""
            used.add(run)
    runs = {row[0]: _run(row) for row in connection.execute(select(*_RUN).order_by(RUNS.c.started, RUNS.c.id))}
    return Snapshot(
        {name: run for name, run in runs.items() if name in used or wanted == Wanted()},
        {name: Series(key, tuple(points[name]), roles.get(name, "")) for name, key in keys.items() if points[name]},
        tuple(_notes(connection)),
    )


def _entries(connection: Connection, ids: Sequence[str] | None) -> list[Entry]:
    """Whole runs, all or those of some ids, in the order of time."""

    def of(query: Any, column: Any) -> Any:
        return connection.execute(query if ids is None else query.where(column.in_(ids)))

    keys = {row[0]: SeriesKey(*row[1:]) for row in connection.execute(select(SERIES.c.digest, *_KEY))}
    figures: dict[str, list[Figure]] = {}
    query = select(
        *(MEASUREMENTS.c[name] for name in ("run_id", "engine", "series", "value", "low", "high", "verdict"))
    )
    for run, engine, series, *rest in of(query, MEASUREMENTS.c.run_id):
        key = keys[series]  # whose name is that of the run that wrote it first
        figures.setdefault(run, []).append(Figure(key if key.engine == engine else replace(key, engine=engine), *rest))
    engines: dict[str, list[HistoryEngine]] = {}
    for run, *rest in of(select(*ENGINES.c), ENGINES.c.run_id):
        engines.setdefault(run, []).append(HistoryEngine(*rest))
    rows = of(select(*_RUN).order_by(RUNS.c.started, RUNS.c.id), RUNS.c.id)
    return [ordered(Entry(_run(row), tuple(engines.get(row[0], ())), tuple(figures.get(row[0], ())))) for row in rows]
