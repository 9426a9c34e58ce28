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
