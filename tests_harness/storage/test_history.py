from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from enginegate.core.errors import RecordError
from enginegate.core.urls import without_password
from enginegate.storage.history import append, series
from enginegate.storage.runs import save_record

from tests_harness.storage.factory import run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"


def test_a_series_is_in_the_order_of_time_and_of_one_machine(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs/history.sqlite"
    append(run_record("late", started="2026-11-22T00:00:00+00:00", commit="bbb"), url, "runs/late/run.json")
    append(run_record("early", started="2026-11-21T00:00:00+00:00", commit="aaa"), url)
    points = series(url, "speedup", INT8, "b8-i64-o64", "epyc-2c-0a1b2c3d")
    assert [(point.run, point.commit, point.verdict) for point in points] == [
        ("early", "aaa", "PASS"),
        ("late", "bbb", "PASS"),
    ]
    assert (points[0].value, points[0].low, points[0].high) == (2.31, 2.27, 2.36)
    assert series(url, "speedup", INT8, "b8-i64-o64", "another") == []
    assert len(series(url, "engine_size", INT8)) == 2
    assert (tmp_path / "runs" / "history.sqlite").is_file()


def test_the_same_run_twice_counts_once_and_the_later_state_wins(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/history.sqlite"
    append(run_record("a", status="partial", verdicts=[]), url)
    append(run_record("a"), url)
    append(run_record("a"), url)
    (point,) = series(url, "speedup", INT8, "b1-i64-o64")
    assert point.verdict == "PASS"


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/history.sqlite"
    verdict = verdict_entry(INT8, None, "FAIL", metric="flips", estimate=math.nan, interval=(math.nan, math.nan))
    append(run_record("a", verdicts=[verdict]), url)
    (point,) = series(url, "flips", INT8)
    assert (point.value, point.low, point.high, point.verdict) == (None, None, None, "FAIL")


def test_processes_append_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from enginegate.storage.history import append;"
        " from enginegate.storage.runs import load_record; append(load_record(Path(sys.argv[1])), sys.argv[2])"
    )
    url = f"sqlite:///{tmp_path}/history.sqlite"
    paths = [save_record(run_record(f"run{number}"), tmp_path) for number in range(4)]
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), url]) for path in paths]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(series(url, "speedup", INT8, "b1-i64-o64")) == 4


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


def test_a_point_says_which_build_it_is_of_and_how_that_was_loaded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.sqlite'}"
    record = run_record("a")
    append(record, url)
    engine = next(entry for entry in record.engines if entry.role == "candidate")
    (point,) = series(url, "engine_size", engine.id)
    assert (point.engine_key, point.runtime_digest) == (engine.key, engine.runtime_digest)
