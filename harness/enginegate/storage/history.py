"""The history: every run's figures in a database, SQLite by default, any SQLAlchemy URL for a fleet of runners."""

from __future__ import annotations

import math
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    func,
    insert,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.util import asbool

from enginegate.core.errors import ConfigError, RecordError, describe, is_no_failure
from enginegate.core.files import expanded
from enginegate.core.records import RunRecord
from enginegate.core.spelling import did_you_mean
from enginegate.core.urls import without_password
from enginegate.storage.summary import measurements

#: How long a writer waits for another one to finish, in seconds.
LOCK_SECONDS = 30

#: Two writers may both see that a table or run is missing; the second one then tries once more.
ATTEMPTS = 3

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
)

MEASUREMENTS = Table(
    "measurements",
    METADATA,
    Column("run_id", ForeignKey(RUNS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("engine", String(256), primary_key=True),
    Column("workload", String(64), primary_key=True),
    Column("metric", String(64), primary_key=True, index=True),
    Column("unit", String(16), nullable=False),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    Column("verdict", String(16), nullable=False),
)

#: Which engine, and which build of it, the figures of a run are of; see core.identity.EngineRef.
ENGINES = Table(
    "engines",
    METADATA,
    Column("run_id", ForeignKey(RUNS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("engine", String(256), primary_key=True),
    Column("backend", String(64), nullable=False),
    Column("precision", String(64), nullable=False),
    Column("variant", String(64), nullable=False),
    Column("runtime_digest", String(64), nullable=False),
    Column("engine_key", String(64), nullable=False),
    Column("version", Text, nullable=False),
)


@dataclass(frozen=True)
class Point:
    """One run's figure in a series. ``value`` and its interval are in the metric's unit; None where not a number.

    ``runtime_digest`` and ``engine_key``: how the engine was loaded, and which build it was; "" where not known.
    """

    run: str
    started: str
    commit: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str
    runtime_digest: str = ""
    engine_key: str = ""


def append(record: RunRecord, url: str, location: str = "") -> None:
    """Add a run and its figures. Doing so again with the same run replaces it, so that nothing counts twice.

    Args:
        record: the run.
        url: SQLAlchemy URL.
        location: path or address of the run record's JSON, kept beside the run.

    Raises:
        RecordError: the database cannot be reached or written.
    """
    with _database(url) as database:
        for attempt in range(ATTEMPTS):
            try:
                with database.begin() as connection:
                    METADATA.create_all(connection)
                    _replace(connection, record, location)
                return
            except (IntegrityError, OperationalError):
                if attempt == ATTEMPTS - 1:
                    raise


def series(url: str, metric: str, engine: str, workload: str = "", fingerprint: str | None = None) -> list[Point]:
    """One metric of one engine over the runs, oldest first.

    Args:
        url: SQLAlchemy URL.
        metric: as in ``enginegate.storage.summary.Measurement``.
        engine: engine id.
        workload: workload id, or "" for figures of the engine as a whole.
        fingerprint: only runs on this kind of machine; None for all.

    Raises:
        RecordError: the database cannot be reached or read.
    """
    columns = MEASUREMENTS.c
    query = (
        select(
            RUNS.c.id,
            RUNS.c.started,
            RUNS.c.commit_id,
            columns.value,
            columns.low,
            columns.high,
            columns.verdict,
            func.coalesce(ENGINES.c.runtime_digest, ""),
            func.coalesce(ENGINES.c.engine_key, ""),
        )
        .join(RUNS, RUNS.c.id == columns.run_id)
        .outerjoin(ENGINES, (ENGINES.c.run_id == columns.run_id) & (ENGINES.c.engine == columns.engine))
        .where(columns.metric == metric, columns.engine == engine, columns.workload == workload)
        .order_by(RUNS.c.started, RUNS.c.id)
    )
    if fingerprint is not None:
        query = query.where(RUNS.c.fingerprint == fingerprint)
    with _database(url) as database, database.begin() as connection:
        METADATA.create_all(connection)
        return [Point(*row) for row in connection.execute(query)]


def _replace(connection: Connection, record: RunRecord, location: str) -> None:
    connection.execute(delete(MEASUREMENTS).where(MEASUREMENTS.c.run_id == record.id))
    connection.execute(delete(ENGINES).where(ENGINES.c.run_id == record.id))
    connection.execute(delete(RUNS).where(RUNS.c.id == record.id))
    run = {
        "id": record.id,
        "started": record.started,
        "commit_id": record.commit,
        "fingerprint": record.fingerprint.key,
        "model": record.model.name,
        "status": record.status,
        "record": location,
    }
    connection.execute(insert(RUNS).values(run))
    rows = [
        {
            "run_id": record.id,
            "engine": item.engine,
            "workload": item.workload,
            "metric": item.metric,
            "unit": item.unit,
            "value": _finite(item.value),
            "low": _finite(item.low),
            "high": _finite(item.high),
            "verdict": item.verdict,
        }
        for item in measurements(record)
    ]
    if rows:
        connection.execute(insert(MEASUREMENTS), rows)
    engines = [
        {
            "run_id": record.id,
            "engine": entry.id,
            "backend": entry.backend,
            "precision": entry.precision,
            "variant": entry.variant,
            "runtime_digest": entry.runtime_digest,
            "engine_key": entry.key,
            "version": entry.version,
        }
        for entry in record.engines
    ]
    if engines:
        connection.execute(insert(ENGINES), engines)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@contextmanager
def _database(url: str, *, make_folder: bool = True) -> Iterator[Engine]:
    shown = without_password(url)
    try:
        is_sqlite = url.startswith("sqlite")
        database = create_engine(_address(url), connect_args={"timeout": LOCK_SECONDS} if is_sqlite else {})
        if is_sqlite:
            _lock_at_begin(database)
            if make_folder and (file := _file(database.url)) is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield database
        finally:
            database.dispose()
    except (ImportError, NoSuchModuleError) as error:
        raise RecordError(
            f"history {shown} needs a database driver that is not installed: {error}", _how_to_have(url, error)
        ) from error
    except BaseException as error:  # as in ``edge``: a driver may raise anything; its words may hold the password
        if is_no_failure(error):
            raise
        reason = describe(getattr(error, "orig", None) or error).splitlines()[0].replace(url, shown)
        raise RecordError(f"history {shown} cannot be used: {reason}", "check the URL and its permissions") from error


_KINDS = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql")
_AS_SQLALCHEMY = "as SQLAlchemy does, such as sqlite:///runs/history.sqlite or postgresql+psycopg:///enginegate"


def _how_to_have(url: str, error: ImportError | NoSuchModuleError) -> str:
    """What to do where a kind of database, or its driver, cannot be loaded."""
    kind = re.split(r"[+:]", url, maxsplit=1)[0]
    if kind not in _KINDS:
        known = f"{kind!r} is no kind of database that SQLAlchemy has{did_you_mean(kind, _KINDS)}"
        return f"{known}: write it {_AS_SQLALCHEMY}"
    if kind == "postgresql":
        return "pip install 'psycopg[binary]', and write postgresql+psycopg://"
    module = getattr(error, "name", None)
    package = f"the package that has the module {module}" if module else "the driver"
    return f"install {package}, or name another driver in the URL: {kind}+DRIVER://"


def _address(url: str) -> URL:
    """A URL as SQLAlchemy reads it; ``~`` in the path of an SQLite file is the home folder. Raises RecordError."""
    shown = without_password(url)
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise RecordError(
            f"history {shown} cannot be used: it is no URL of a database",
            f"write it {_AS_SQLALCHEMY}",
        ) from error
    except ValueError as error:
        raise RecordError(f"history {shown} cannot be used: its port is no number", "check the URL") from error
    file = _file(address)
    return address if file is None else address.set(database=str(expanded(file)))


def _is_uri(address: URL) -> bool:
    """Whether SQLite gets a database's name as a URI of its own (``file:NAME?mode=ro``)."""
    return (address.database or "").startswith("file:") and asbool(address.query.get("uri", False))


def _file(address: URL) -> Path | None:
    """The file of an SQLite database; None for any other, for one in memory, and for SQLite's own kind of URI."""
    name = address.database
    if address.get_backend_name() != "sqlite" or not name or name == ":memory:" or _is_uri(address):
        return None
    return Path(name)


def _file_of_uri(address: URL) -> Path | None:
    """The file that SQLite's own kind of URI names; None for a database in memory, or in a file without a name."""
    name = unquote(urlsplit(str(address.database)).path)
    in_memory = address.query.get("mode") == "memory" or address.query.get("vfs") == "memdb"
    return None if in_memory or name in ("", ":memory:") else Path(name)


def check(url: str) -> None:
    """Find out now what makes no sense of a history that is written at the end. No server is asked.

    Nothing is made: the folder of an SQLite file may be missing until something is written.

    Raises:
        ConfigError: the URL cannot be read, its kind of database or driver is not known or not installed, or its SQLite
            file is a folder, no database, another's, in memory, or cannot be written.
    """
    shown = without_password(url)
    try:
        with _database(url, make_folder=False) as database:
            if database.dialect.is_async:
                raise RecordError(
                    f"history {shown} cannot be used: its driver {database.dialect.driver} is an asynchronous one",
                    "take another driver of that database, e.g. postgresql+psycopg:// or sqlite://",
                )
            if database.dialect.name != "sqlite":
                return
            file = _file_of_uri(database.url) if _is_uri(database.url) else _file(database.url)
            if file is not None:
                _check_file(file, shown)
            else:
                raise RecordError(
                    f"history {shown} cannot be used: a database in memory is gone at the end of the session",
                    "name a file, such as sqlite:///runs/history.sqlite",
                )
    except RecordError as error:
        raise ConfigError(error.problem, error.hint) from error


def _check_file(file: Path, shown: str) -> None:
    """Raise RecordError or OSError unless an SQLite file is a history of ours, or none yet, and can be written."""
    if file.is_dir():
        raise RecordError(f"history {shown} cannot be used: {file} is a folder", f"name a file: {file}/history.sqlite")
    there = next(folder for folder in file.absolute().parents if os.path.lexists(folder))
    with tempfile.TemporaryFile(dir=there):  # SQLite's journal lies there, too
        pass
    if not file.exists():
        return
    file.open("r+b").close()
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            found = {
                table.name: {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
                for table in METADATA.sorted_tables
            }
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return  # by another session, which has written it
            raise
    for table in METADATA.sorted_tables:
        lacking = [column.name for column in table.columns if column.name not in found[table.name]]
        if found[table.name] and lacking:
            raise RecordError(
                f"history {shown} cannot be used: its table {table.name} has no column {lacking[0]}: it is another's",
                "name another file",
            )


def _lock_at_begin(database: Engine) -> None:
    """Take SQLite's write lock when a transaction begins, so that two writers queue instead of failing half-way."""

    @event.listens_for(database, "connect")
    def _autocommit(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(database, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
