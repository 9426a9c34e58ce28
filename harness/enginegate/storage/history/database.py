"""Opening a history: its URL, what of it can be told before anything is written, and errors in plain words."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.util import asbool

from enginegate.core.errors import ConfigError, RecordError, describe, is_no_failure
from enginegate.core.files import expanded
from enginegate.core.spelling import did_you_mean
from enginegate.core.urls import without_password
from enginegate.storage.history.migrating import migrate, refuse_another_schema
from enginegate.storage.history.tables import MEASUREMENTS, RUNS

Value = TypeVar("Value")

#: How long a writer waits for another one to finish, in seconds.
LOCK_SECONDS = 30

#: Of two writers that add the same run or series, or wait for each other, one is told so and tries once more.
ATTEMPTS = 5


def write(url: str, change: Callable[[Connection], Value]) -> Value:
    """Do ``change`` in one transaction, on a history that is made or migrated where it has to be.

    Raises RecordError where the database cannot be reached or written, or is of a newer enginegate.
    """
    with _database(url) as database:
        for attempt in range(ATTEMPTS):
            try:
                with database.begin() as connection:
                    migrate(connection, without_password(url))
                    return change(connection)
            except (IntegrityError, OperationalError):
                if attempt == ATTEMPTS - 1:
                    raise
    raise AssertionError("every attempt returns or raises")


def read(url: str, question: Callable[[Connection], Value]) -> Value:
    """Ask ``question`` of a history in one transaction that cannot write.

    Raises RecordError where the database is not there, cannot be read, or has another schema than this version reads.
    """
    with _database(url, make_folder=False, writable=False) as database, database.begin() as connection:
        refuse_another_schema(connection, without_password(url))
        return question(connection)


@contextmanager
def _database(url: str, *, make_folder: bool = True, writable: bool = True) -> Iterator[Engine]:
    shown = without_password(url)
    try:
        is_sqlite = url.startswith("sqlite")
        address = _address(url)
        if is_sqlite and not writable:
            address = _only_read(address, shown)
        database = create_engine(address, connect_args={"timeout": LOCK_SECONDS} if is_sqlite else {})
        if is_sqlite:
            _lock_at_begin(database, "BEGIN IMMEDIATE" if writable else "BEGIN")
            if make_folder and (file := _file(database.url)) is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
        elif not writable and database.dialect.name == "postgresql":
            database = database.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
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
                name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in _FIRST_COLUMNS
            }
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return  # by another session, which has written it
            raise
    for name, columns in _FIRST_COLUMNS.items():
        lacking = [column for column in columns if column not in found[name]]
        if found[name] and lacking:
            raise RecordError(
                f"history {shown} cannot be used: its table {name} has no column {lacking[0]}: it is another's",
                "name another file",
            )


#: By table, columns that every history of ours has had, of whatever schema: what lacks one is another program's.
_FIRST_COLUMNS = {
    RUNS.name: ("id", "started", "commit_id", "fingerprint", "model", "status", "record"),
    MEASUREMENTS.name: ("run_id", "engine", "workload", "metric", "unit", "value", "low", "high", "verdict"),
}


def _only_read(address: URL, shown: str) -> URL:
    """The URL of an SQLite file that is opened to be read alone. Raises RecordError where there is no such file."""
    uri = _is_uri(address)
    file = _file_of_uri(address) if uri else _file(address)
    if file is None:
        raise RecordError(f"history {shown} cannot be read: it is in memory, and empty", "name a file")
    if file.is_dir():
        raise RecordError(f"history {shown} cannot be used: {file} is a folder", f"name a file: {file}/history.sqlite")
    if not file.exists():
        raise RecordError(
            f"there is no history {shown}",
            "run pytest first, `enginegate history import` records, or name one with --history or $ENGINEGATE_HISTORY",
        )
    if uri:
        return address.update_query_dict({"mode": "ro"})
    return address.set(database=file.absolute().as_uri()).update_query_dict({"mode": "ro", "uri": "true"})


def _lock_at_begin(database: Engine, begin: str) -> None:
    """With BEGIN IMMEDIATE, a transaction has SQLite's write lock from its beginning: two writers queue."""

    @event.listens_for(database, "connect")
    def _autocommit(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(database, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
