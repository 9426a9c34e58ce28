"""Many writers at once, on SQLite and on a PostgreSQL server; both give the same answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from enginegate.core.errors import RecordError
from enginegate.storage.history import store
from enginegate.storage.history.database import read
from enginegate.storage.history.entries import Note, entry_of
from enginegate.storage.history.store import load

from tests_harness.storage.factory import run_record
from tests_harness.storage.postgresql import server

pytestmark = pytest.mark.heavy

WRITERS, RUNS = 8, 50
#: A writer of a fleet: its own machine, and one engine that all have.
WRITER = """
import sys
from enginegate.storage.history.store import append
from tests_harness.storage.factory import run_record
url, number, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
record = run_record(batch_sizes=(1,), quality=False)
for run in range(runs):
    started = f"2026-11-{1 + run // 24:02d}T{run % 24:02d}:00:{number:02d}+00:00"
    append(record.model_copy(update={"id": f"w{number}-{run}", "started": started}), url)
"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with server() as url:
        yield url


def emptied(url: str) -> str:
    """The same server without any table."""
    database = sa.create_engine(url)
    with database.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    database.dispose()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.sqlite"
    return emptied(request.getfixturevalue("postgresql"))


def test_eight_writers_lose_nothing(url: str) -> None:
    """They begin on a database without tables, so that the first migration is raced for, too."""
    repository = Path(__file__).resolve().parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(number), str(RUNS)], cwd=repository)
        for number in range(WRITERS)
    ]
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    snapshot = load(url)
    assert set(snapshot.runs) == {f"w{number}-{run}" for number in range(WRITERS) for run in range(RUNS)}
    figures = len(entry_of(run_record(batch_sizes=(1,), quality=False)).figures)
    assert len(snapshot.series) == figures
    assert {len(series.points) for series in snapshot.series.values()} == {WRITERS * RUNS}


def test_both_give_the_same_answers(tmp_path: Path, postgresql: str) -> None:
    runs = [
        entry_of(run_record(f"run{day}", seed=day, started=f"2026-11-{day:02d}T00:00:00+00:00", commit=f"{day:07d}"))
        for day in range(1, 6)
    ]
    lite, server_url = f"sqlite:///{tmp_path}/history.sqlite", emptied(postgresql)
    for url in (lite, server_url):
        assert store.add(runs, url) == store.Added(new=5)
        assert store.add(runs, url) == store.Added(same=5)
        store.annotate(url, [Note(next(iter(load(url).series)), "run3", "by intention", "2026")])
    assert load(lite) == load(server_url)
    assert store.entries(lite) == store.entries(server_url)
    for wanted in (store.Wanted(engine="int8"), store.Wanted(metric="latency", machine="epyc"), store.Wanted("zz")):
        assert load(lite, wanted) == load(server_url, wanted)


def test_a_reader_cannot_write_to_a_server(postgresql: str) -> None:
    url = emptied(postgresql)
    with pytest.raises(RecordError, match="empty"):
        load(url)
    store.upgrade(url)
    columns = read(url, lambda connection: sa.inspect(connection).get_columns("measurements"))
    assert {each["name"]: each["type"].length for each in columns if each["name"] in ("engine", "metric")} == {
        "engine": 512,
        "metric": 256,
    }
    with pytest.raises(RecordError, match="read-only transaction"):
        read(url, lambda connection: connection.execute(sa.text("DELETE FROM runs")))
