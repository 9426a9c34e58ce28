from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from enginegate.core.errors import RecordError
from enginegate.core.records import SCHEMA, Fingerprint, RunRecord
from enginegate.core.serving_records import LoadEntry, ServingEntry, SloEntry
from enginegate.core.urls import without_password
from enginegate.storage.history import migrating, store
from enginegate.storage.history.database import read, write
from enginegate.storage.history.entries import Note, Series, entry_of
from enginegate.storage.history.identity import NOT_KEPT, SeriesKey, series_keys
from enginegate.storage.history.store import Wanted, append, load
from enginegate.storage.history.tables import HEAD, METADATA
from enginegate.storage.runs import save_record
from enginegate.storage.summary import Measurement

from tests_harness.storage.factory import REFERENCE, run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"


def only(url: str, **wanted: str) -> Series:
    """The one series that is wanted."""
    (found,) = load(url, Wanted(**wanted)).series.values()
    return found


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/history.sqlite"


def test_a_series_is_in_the_order_of_time_and_of_one_machine(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs/history.sqlite"
    append(run_record("late", started="2026-11-22T00:00:00+00:00", commit="bbb"), url, "runs/late/run.json")
    append(run_record("early", started="2026-11-21T00:00:00+00:00", commit="aaa"), url)
    found = only(url, metric="speedup", engine=INT8, workload="b8-i64-o64", machine="epyc-2c-0a1b2c3d")
    assert [(point.run, point.verdict) for point in found.points] == [("early", "PASS"), ("late", "PASS")]
    assert (found.points[0].value, found.points[0].low, found.points[0].high) == (2.31, 2.27, 2.36)
    snapshot = load(url)
    assert [run.commit for run in snapshot.runs.values()] == ["aaa", "bbb"]
    assert snapshot.runs["late"].record == "runs/late/run.json"
    assert load(url, Wanted(machine="another")).series == {}
    assert len(only(url, metric="engine_size", engine=INT8).points) == 2
    assert (tmp_path / "runs" / "history.sqlite").is_file()


def test_the_same_run_twice_counts_once_and_the_later_state_wins(url: str) -> None:
    append(run_record("a", status="partial", verdicts=[]), url)
    append(run_record("a"), url)
    append(run_record("a"), url)
    (point,) = only(url, metric="speedup", engine=INT8, workload="b1-i64-o64").points
    assert point.verdict == "PASS"


def test_what_is_not_a_number_is_null(url: str) -> None:
    verdict = verdict_entry(INT8, None, "FAIL", metric="flips", estimate=math.nan, interval=(math.nan, math.nan))
    append(run_record("a", verdicts=[verdict]), url)
    (point,) = only(url, metric="flips", engine=INT8).points
    assert (point.value, point.low, point.high, point.verdict) == (None, None, None, "FAIL")


def otherwise(record: RunRecord, what: str) -> RunRecord:
    """The same run, but for one thing that is measured, or that it may come from."""
    candidate = record.engines[2]

    def engine(**changes: object) -> RunRecord:
        engines = [each.model_copy(update=changes) if each is candidate else each for each in record.engines]
        return record.model_copy(update={"engines": engines})

    match what:
        case "model digest":
            return record.model_copy(update={"model": record.model.model_copy(update={"digest": "e" * 64})})
        case "machine":
            return record.model_copy(
                update={"fingerprint": Fingerprint(key="other", identity={}, context=record.fingerprint.context)}
            )
        case "seed":
            return record.model_copy(
                update={"arenas": [arena.model_copy(update={"seed": 7}) for arena in record.arenas]}
            )
        case "runtime":
            return engine(runtime_digest="another")
        case "backend" | "precision" | "variant":
            return engine(**{what: "another"})
        case "key":
            return engine(key="another build")
        case "version":
            return engine(version="openvino 2027")
        case "commit":
            return record.model_copy(update={"commit": "another"})
        case "name":
            return record.model_copy(update={"model": record.model.model_copy(update={"name": "other-name"})})
    raise ValueError(what)


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        *((what, 2) for what in ("model digest", "machine", "seed", "runtime", "backend", "precision", "variant")),
        *((what, 1) for what in ("key", "version", "commit", "name")),
    ],
)
def test_what_is_measured_makes_a_series_and_what_a_change_may_come_from_does_not(
    url: str, what: str, lines: int
) -> None:
    first = run_record("a", started="2026-11-21T00:00:00+00:00")
    append(first, url)
    append(otherwise(first, what).model_copy(update={"id": "b", "started": "2026-11-22T00:00:00+00:00"}), url)
    found = load(url, Wanted(engine=INT8, metric="latency", workload="b1-i64-o64")).series
    assert sorted(len(series.points) for series in found.values()) == [2 // lines] * lines


def test_a_ratio_over_another_reference_is_another_series(url: str) -> None:
    """ "massive regression": compile was compared with eager under one name."""
    append(run_record("a", verdicts=[]), url)
    record = run_record("b", verdicts=[])
    engines = [
        each.model_copy(update={"precision": "fp32"}) if each.id == REFERENCE else each for each in record.engines
    ]
    append(record.model_copy(update={"engines": engines}), url)
    found = load(url, Wanted(engine=INT8, workload="b1-i64-o64")).series.values()
    assert [len(each.points) for each in found if each.key.metric == "speedup"] == [1, 1]
    assert [len(each.points) for each in found if each.key.metric == "latency"] == [2]


def test_serving_is_a_series_for_each_load_and_goodput_for_each_level() -> None:
    def methods(seed: int, ttft: float) -> list[str]:
        load = LoadEntry(kind="poisson", rate=2.0, requests=120, seed=seed)
        entry = ServingEntry(engine=INT8, load=load, slo=SloEntry(ttft=ttft), runs=[])
        figures = [
            Measurement(INT8, load.id, "serving_ttft_p99", "seconds", 0.5),
            Measurement(INT8, load.id, "serving_goodput", "requests/s", 1.5),
        ]
        return [key.method for key in series_keys(run_record(serving=[entry]), figures)]

    (latency, goodput), (same, other_level), (other_seed, _) = methods(0, 1.0), methods(0, 2.0), methods(1, 1.0)
    assert latency == same != other_seed
    assert "seed 0" in latency
    assert goodput != other_level


def test_the_environment_of_a_run_is_kept(url: str) -> None:
    context = {
        "kernel": "6.1", "python": "3.11.7", "libraries": {"torch": "2.13.0"}, "load_average": [1.0],
        "gpus": [{"driver": "595.58", "uuid": "x"}, {"driver": "595.58", "uuid": "y"}],
    }  # fmt: skip
    append(run_record(fingerprint=Fingerprint(key="k", identity={}, context=context)), url)
    (run,) = load(url).runs.values()
    assert run.environment == {"kernel": "6.1", "python": "3.11.7", "driver": "595.58", "torch": "2.13.0"}
    assert (run.schema, run.enginegate, run.origin) == (SCHEMA, "0.1.0", "enginegate")


def test_a_digest_is_what_it_was() -> None:
    """A change of how it is made would break every stored series in two: it needs a migration."""
    key = SeriesKey(
        "d" * 64, "m-hf-bf16", "hf", "bf16", "", "44136fa355b3", "b1", "latency", "seconds", "epyc", "rounds"
    )
    assert key.digest == "cca4106053000892"
    assert replace(key, engine="other name").digest == key.digest
    assert replace(key, model_digest="").digest != replace(key, model_digest="", engine="other name").digest


def old_history(file: Path, *, engines: bool = True) -> None:
    """A history as version 0.1.0 made it, before there were migrations."""
    with sqlite3.connect(file) as connection:
        connection.executescript(
            """
            CREATE TABLE runs (id VARCHAR(128) NOT NULL, started VARCHAR(64) NOT NULL, commit_id VARCHAR(64) NOT NULL,
              fingerprint VARCHAR(128) NOT NULL, model VARCHAR(128) NOT NULL, status VARCHAR(16) NOT NULL,
              record TEXT NOT NULL, PRIMARY KEY (id));
            CREATE INDEX ix_runs_started ON runs (started);
            CREATE TABLE measurements (run_id VARCHAR(128) NOT NULL, engine VARCHAR(256) NOT NULL,
              workload VARCHAR(64) NOT NULL, metric VARCHAR(64) NOT NULL, unit VARCHAR(16) NOT NULL, value FLOAT,
              low FLOAT, high FLOAT, verdict VARCHAR(16) NOT NULL, PRIMARY KEY (run_id, engine, workload, metric),
              FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE);
            CREATE INDEX ix_measurements_metric ON measurements (metric);
            INSERT INTO runs VALUES ('a', '2026-11-20T00:00:00+00:00', 'aaa', 'epyc-2c-0a1b2c3d', 'tiny-8m',
              'complete', 'runs/a/run.json');
            INSERT INTO measurements VALUES ('a', 'tiny-8m-openvino-int8_wo', 'b1-i64-o64', 'latency', 'seconds', 0.4,
              0.39, 0.41, '');
            """
        )
        if engines:
            connection.executescript(
                """
                CREATE TABLE engines (run_id VARCHAR(128) NOT NULL, engine VARCHAR(256) NOT NULL,
                  backend VARCHAR(64) NOT NULL, precision VARCHAR(64) NOT NULL, variant VARCHAR(64) NOT NULL,
                  runtime_digest VARCHAR(64) NOT NULL, engine_key VARCHAR(64) NOT NULL, version TEXT NOT NULL,
                  PRIMARY KEY (run_id, engine), FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE);
                INSERT INTO engines VALUES ('a', 'tiny-8m-openvino-int8_wo', 'openvino', 'int8_wo', '', '44136fa355b3',
                  'key', 'openvino 2026.4');
                """
            )


@pytest.mark.parametrize("engines", [True, False])
def test_a_history_from_before_migrations_is_adopted_by_writers_and_refused_by_readers(
    tmp_path: Path, url: str, engines: bool
) -> None:
    file = tmp_path / "history.sqlite"
    old_history(file, engines=engines)
    before = file.read_bytes()
    with pytest.raises(RecordError, match="before there were migrations") as caught:
        load(url)
    assert "enginegate history upgrade" in caught.value.hint
    assert file.read_bytes() == before
    store.upgrade(url)
    old = only(url, metric="latency")
    assert (old.key.method, old.key.model_digest, old.key.precision) == (NOT_KEPT, "", "int8_wo" if engines else "")
    assert [(point.run, point.value) for point in old.points] == [("a", 0.4)]
    append(run_record("b"), url)
    assert len(load(url, Wanted(metric="latency", engine=INT8, workload="b1-i64-o64")).series) == 2
    append(run_record("a"), url, "runs/a/run.json")  # its record, read again, tells what was not kept
    assert len(only(url, metric="latency", engine=INT8, workload="b1-i64-o64").points) == 2


def columns_of(connection: sa.Connection) -> dict[str, object]:
    """By table its columns, without the lengths of texts, which SQLite does not keep to; keys and indexes."""
    inspector = sa.inspect(connection)
    tables = [name for name in inspector.get_table_names() if name != "alembic_version"]
    return {
        name: (
            {
                each["name"]: (str(each["type"]).partition("(")[0], each["nullable"])
                for each in inspector.get_columns(name)
            },
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted(str(each["column_names"]) for each in inspector.get_indexes(name)),
            [(each["constrained_columns"], each["referred_table"]) for each in inspector.get_foreign_keys(name)],
        )
        for name in tables
    }


@pytest.mark.parametrize("old", [False, True])
def test_migrations_lead_to_the_tables_that_the_code_reads(tmp_path: Path, url: str, old: bool) -> None:
    if old:
        old_history(tmp_path / "history.sqlite")
    migrated = write(url, columns_of)
    with sa.create_engine("sqlite://").begin() as connection:
        METADATA.create_all(connection)
        assert columns_of(connection) == migrated
    assert read(url, migrating.stored_schema) == HEAD


def test_a_history_of_a_newer_version_is_neither_read_nor_written(tmp_path: Path, url: str) -> None:
    store.upgrade(url)
    with sqlite3.connect(tmp_path / "history.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for use in (load, store.upgrade):
        with pytest.raises(RecordError, match="newer") as caught:
            use(url)
        assert "update enginegate" in caught.value.hint


def test_a_reader_makes_no_file_and_cannot_write(tmp_path: Path, url: str) -> None:
    with pytest.raises(RecordError, match="there is no history"):
        load(url)
    assert list(tmp_path.iterdir()) == []
    append(run_record("a"), url)
    with pytest.raises(RecordError, match="readonly"):
        read(url, lambda connection: connection.execute(sa.text("DELETE FROM runs")))
    uri = f"sqlite:///file:{tmp_path}/history.sqlite?uri=true"
    assert list(load(uri).runs) == ["a"]


def test_an_upgrade_that_fails_leaves_the_history_as_it_was(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "history.sqlite"
    old_history(file)
    monkeypatch.setattr(SeriesKey, "row", lambda _: 1 / 0)
    with pytest.raises(RecordError, match="division"):
        store.upgrade(url)
    with sqlite3.connect(file) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == {"runs", "measurements", "engines"}
    monkeypatch.undo()
    store.upgrade(url)
    assert len(load(url).series) == 1


def test_runs_that_are_added_again_are_told_apart(url: str) -> None:
    whole, other = entry_of(run_record("a")), entry_of(run_record("b", commit="x"))
    assert store.add([whole, other], url) == store.Added(new=2)
    assert store.add([whole, other], url) == store.Added(same=2)
    assert store.add([entry_of(run_record("b", commit="y"))], url) == store.Added(replaced=1)
    partial = entry_of(run_record("a", status="partial", verdicts=[]))
    assert store.add([partial], url) == store.Added(kept=("a",))
    assert store.entries(url)[0][0] == store.ordered(whole)


def test_a_note_says_why_and_the_later_one_counts(url: str) -> None:
    append(run_record("a"), url)
    digest = only(url, metric="engine_size", engine=INT8).digest
    store.annotate(url, [Note(digest, "a", "first", "2026")])
    store.annotate(url, [Note(digest, "a", "openvino 2026.4 by intention", "2027")])
    assert load(url).notes == (Note(digest, "a", "openvino 2026.4 by intention", "2027"),)


def test_processes_make_and_append_at_once(tmp_path: Path, url: str) -> None:
    """The first of them makes the tables; none finds them half made."""
    code = (
        "import sys; from pathlib import Path; from enginegate.storage.history.store import append;"
        " from enginegate.storage.runs import load_record; append(load_record(Path(sys.argv[1])), sys.argv[2])"
    )
    paths = [save_record(run_record(f"run{number}"), tmp_path) for number in range(4)]
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), url]) for path in paths]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(only(url, metric="speedup", engine=INT8, workload="b1-i64-o64").points) == 4


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////proc/nowhere/history.sqlite", "cannot be used"),
        ("nonsense", "cannot be used"),
        ("nosuchdatabase://host/name", "driver that is not installed"),
    ],
)
def test_a_history_that_cannot_be_used_is_a_clear_error(url: str, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        append(run_record(), url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+nosuchdriver://user:hunter2@host/name",
        "postgresql+nosuchdriver://host/name?user=me&password=hunter2",
        "postgresql+nosuchdriver://host:port/name?password=hunter2",
    ],
)
def test_a_password_is_not_shown(url: str) -> None:
    """Formerly ``?password=`` was shown in full, and a port that is no number ended in a traceback."""
    with pytest.raises(RecordError) as caught:
        append(run_record(), url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--history=postgresql+psycopg://me:pw@host:5432/db", "--history=postgresql+psycopg://me:***@host:5432/db"),
        ("postgresql://host/db?password=pw", "postgresql://host/db?password=***"),
        ("postgresql://host/db?user=me&sslpassword=pw&a=b", "postgresql://host/db?a=b&sslpassword=***&user=me"),
        ("mysql://host/db?passwd=p%26w", "mysql://host/db?passwd=***"),
        ("https://host/x?access_token=pw", "https://host/x?access_token=***"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dpw", "mssql+pyodbc:///?odbc_connect=***"),
        # what SQLAlchemy cannot read, or takes a part of the password for the host of
        ("postgresql://me:p@w@host/db", "postgresql://***@host/db"),
        (
            "--history=postgresql://me:pw@host:port/db?token=pw&a=b",
            "--history=postgresql://***@host:port/db?token=***&a=b",
        ),
        # nothing to hide
        ("sqlite:////tmp/a b/history.sqlite?timeout=5", "sqlite:////tmp/a b/history.sqlite?timeout=5"),
        ("postgresql+psycopg:///enginegate", "postgresql+psycopg:///enginegate"),
        ("-k not password=1 and a@b:c", "-k not password=1 and a@b:c"),
        ("--config=file.yaml", "--config=file.yaml"),
    ],
)
def test_a_command_line_is_stored_without_passwords(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert without_password(shown) == shown, "what is masked stays as it is"


def test_a_point_says_which_build_it_is_of_and_of_which_libraries(url: str) -> None:
    record = run_record("a")
    append(record, url)
    engine = next(entry for entry in record.engines if entry.role == "candidate")
    found = only(url, metric="engine_size", engine=engine.id)
    (point,) = found.points
    assert (point.engine_key, point.version) == (engine.key, engine.version)
    assert (found.key.runtime_digest, found.role) == (engine.runtime_digest, "candidate")
