"""A test that is run again, as pytest-rerunfailures does, counts as its last attempt."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FLAKY = """
import pathlib
import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_gates(0)]

@pytest.mark.usefixtures("built")
def test_size(gate):
    verdict = gate.engine_size()
    if {again} and not pathlib.Path("seen").exists():
        pathlib.Path("seen").touch()
        raise RuntimeError("the first time")
    assert verdict
"""


def test_failed_tests_alone_are_a_second_attempt_too(suite):
    """``pytest --lf``: its record looks like that of any session."""
    (suite.folder / "tests_perf" / "test_flaky.py").write_text(FLAKY.format(again=True), encoding="utf-8")
    arguments = suite.arguments("tests_perf/test_flaky.py", "--precision=int8_wo")
    arguments.remove("-pno:cacheprovider")
    suite.pytester.runpytest_inprocess(*arguments)
    assert suite.record().status == "partial"
    assert suite.pytester.runpytest_inprocess(*arguments, "--lf").ret == pytest.ExitCode.OK
    assert [entry.status for entry in suite.record().verdicts] == ["NO_BASELINE"]
    (line,) = suite.record().warnings
    assert line.startswith(
        "1 test failed in an earlier session and is run again alone (--lf): tests_perf/test_flaky.py"
    )


KILLED = """
import os
import pathlib
import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_gates(0)]

@pytest.mark.usefixtures("built")
def test_size(gate):
    if not pathlib.Path("seen").exists():
        pathlib.Path("seen").touch()
        assert gate.engine_size()
        raise RuntimeError("the first time")
    assert gate.build_time()

def test_killed():
    os._exit(3)
"""


def test_a_session_that_dies_keeps_the_last_attempt(suite):
    """As many verdicts as before it ran again were taken for nothing new: the first attempt stayed on disk."""
    (suite.folder / "tests_perf" / "test_killed.py").write_text(KILLED, encoding="utf-8")
    arguments = suite.arguments("tests_perf/test_killed.py", "--precision=int8_wo")
    suite.pytester.runpytest_subprocess(*arguments, "-prerunfailures", "--reruns=1")
    assert [entry.metric for entry in suite.record().verdicts] == ["build_seconds"]
    (attempt,) = suite.record().attempts
    assert [entry.metric for entry in attempt.verdicts] == ["engine_size"]
    assert attempt.errors == ["failed beside its verdict: the first time"]


@pytest.mark.heavy
@pytest.mark.parametrize("again", [False, True])
def test_verdicts_and_errors_of_an_earlier_attempt_are_forgotten(suite, again):
    """They stayed: the record had two verdicts of one test, and was partial for an error that did not last."""
    (suite.folder / "tests_perf" / "test_flaky.py").write_text(FLAKY.format(again=again), encoding="utf-8")
    arguments = suite.arguments("tests_perf/test_flaky.py", "--precision=int8_wo", "-v")
    result = suite.pytester.runpytest_subprocess(*arguments, "-prerunfailures", "--reruns=1")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert ("1 rerun" in result.outlines[-1]) == again
    record = suite.record()
    assert record.status == "complete"
    assert record.warnings == []
    assert [entry.test for entry in record.verdicts] == [
        "tests_perf/test_flaky.py::test_size[toy-fake-int8_wo]",
    ]
    assert len(record.attempts) == again


ATTEMPTS = """
import dataclasses
import pathlib

import enginegate.plugin.gate
import pytest
from enginegate.gates.verdict import Status

pytestmark = [pytest.mark.eg_quality, pytest.mark.eg_gates(0)]


@pytest.fixture
def failing(monkeypatch, request):
    real, name = enginegate.plugin.gate.judge, request.node.originalname
    seen = pathlib.Path(f"seen-{name}")
    count = len(seen.read_text()) if seen.exists() else 0
    seen.write_text("x" * (count + 1))
    status = Status.FAIL if count < 2 or name == "test_red" else Status.PASS
    monkeypatch.setattr(
        enginegate.plugin.gate, "judge", lambda *args: dataclasses.replace(real(*args), status=status)
    )

@pytest.mark.usefixtures("built", "failing")
def test_red(gate):
    assert gate.engine_size()

@pytest.mark.usefixtures("built", "failing")
def test_green(gate):
    gate.engine_size()

@pytest.mark.usefixtures("built")
def test_once(gate):
    assert gate.engine_size()
"""


@pytest.mark.parametrize(
    "spread",
    [
        pytest.param((), id="here"),
        pytest.param(("-n1", "--dist=loadgroup"), id="xdist", marks=pytest.mark.heavy),
    ],
)
def test_the_last_attempt_counts_and_the_others_are_kept(suite, spread):
    """One FAIL was three times in the record; and nobody saw that a PASS was the third of three attempts."""
    (suite.folder / "tests_quality" / "test_attempts.py").write_text(ATTEMPTS, encoding="utf-8")
    arguments = suite.arguments("tests_quality/test_attempts.py", "--precision=int8_wo", *spread)
    result = suite.pytester.runpytest_subprocess(*arguments, "-prerunfailures", "--reruns=2")
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"], outcomes["rerun"]) == (1, 1, 4)
    record = suite.record()
    name = "tests_quality/test_attempts.py::test_{}[toy-fake-int8_wo]".format
    statuses = {entry.test: entry.status for entry in record.verdicts}
    assert statuses == {name("red"): "FAIL", name("green"): "PASS", name("once"): "NO_BASELINE"}
    assert len(record.verdicts) == 3
    kept = [(attempt.test, [verdict.status for verdict in attempt.verdicts]) for attempt in record.attempts]
    assert sorted(kept) == sorted([(name("red"), ["FAIL"]), (name("green"), ["FAIL"])] * 2)
    assert record.status == "complete"
    output = " ".join(result.stdout.str().split())
    assert f"run again: {name('green')}: PASS at attempt 3 of 3, after FAIL, FAIL; a gate's error rates hold" in output
    assert "toy: 1 FAIL, 1 NO_BASELINE, 1 PASS; 1 FAIL went away when run again" in output
    run = suite.folder / "runs" / record.id
    assert "PASS at attempt 3 of 3, after FAIL, FAIL" in (run / "summary.md").read_text(encoding="utf-8")
