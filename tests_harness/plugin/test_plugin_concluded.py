"""A gated test passes by its verdicts alone, however it ends; one without a verdict is an error."""

from __future__ import annotations

import dataclasses
import sys

import enginegate.plugin.gate
import pytest
from enginegate.gates.verdict import Status

pytest_plugins = ["pytester"]

#: Every way we know in which a test may end without asserting its verdict.
IGNORED = """
import contextlib
import unittest

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_gates(0), pytest.mark.usefixtures("built")]


@pytest.fixture
def in_setup(gate):
    return gate.engine_size()

@pytest.fixture
def in_setup_then_skipped(gate):
    gate.engine_size()
    pytest.skip("no time")

@pytest.fixture
def in_teardown(gate):
    yield
    gate.engine_size()

def test_asserted(gate):
    assert gate.engine_size()

def test_returned(gate):
    verdict = gate.engine_size()

def test_looked_at(gate):
    if gate.engine_size():
        pass

def test_caught(gate):
    with contextlib.suppress(AssertionError):
        assert gate.engine_size()

def test_raises(gate):
    with pytest.raises(AssertionError):
        assert gate.engine_size()

def test_expected_not(gate):
    assert not gate.engine_size() or True

@pytest.mark.xfail(strict=False, reason="known")
def test_xfail(gate):
    assert gate.engine_size()

@pytest.mark.xfail(strict=False, reason="known")
def test_xfail_returned(gate):
    gate.engine_size()

@pytest.mark.xfail(strict=True, reason="known")
def test_xfail_strict(gate):
    gate.engine_size()

def test_xfail_inside(gate):
    gate.engine_size()
    pytest.xfail("known")

def test_xfail_requested(gate, request):
    request.applymarker(pytest.mark.xfail(reason="known"))
    assert gate.engine_size()

def test_skipped_after(gate):
    gate.engine_size()
    pytest.skip("no time")

def test_skipped_after_by_unittest(gate):
    gate.engine_size()
    raise unittest.SkipTest("no time")

def test_fixture(in_setup):
    pass

def test_fixture_that_skips(in_setup_then_skipped):
    pass

def test_dynamic(request, candidate):
    request.getfixturevalue("gate").engine_size()

def test_first_of_two(gate):
    gate.engine_size()
    assert gate.build_time()
"""

#: Tests that conclude nothing.
WITHOUT = """
import contextlib
import unittest

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_gates(0)]


@pytest.fixture
def broken():
    raise OSError("broken")

def test_returned(gate):
    pass

def test_raised(gate):
    raise OSError("broken")

def test_skipped(gate):
    pytest.skip("no time")

def test_skipped_by_unittest(gate):
    raise unittest.SkipTest("no time")

def test_xfail_inside(gate):
    pytest.xfail("known")

@pytest.mark.xfail(reason="known")
def test_xfail(gate):
    raise OSError("broken")

@pytest.mark.xfail(reason="known")
def test_xfail_returned(gate):
    pass

@pytest.mark.xfail(reason="known")
def test_xfail_setup(gate, broken):
    pass

def test_dynamic(request, candidate):
    request.getfixturevalue("gate")

def test_swallowed(gate):
    with contextlib.suppress(Exception):
        gate.perplexity(None)

@pytest.mark.usefixtures("built")
def test_swallowed_and_another(gate):
    with contextlib.suppress(Exception):
        gate.perplexity(None)
    assert gate.engine_size()
"""

#: Tests that may end as they do.
SOUND = """
import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_gates(0)]


@pytest.fixture
def elsewhere():
    pytest.skip("not on this machine")

@pytest.mark.usefixtures("built")
def test_asserted(gate):
    assert gate.engine_size()

@pytest.mark.usefixtures("built")
def test_subtests(gate, subtests):
    with subtests.test("size"):
        pass
    with subtests.test("size"):
        assert gate.engine_size()

@pytest.mark.skip(reason="later")
def test_marked(gate):
    pass

@pytest.mark.xfail(run=False, reason="crashes")
def test_not_run(gate):
    pass

def test_fixture_skips(gate, elsewhere):
    pass

def test_suite_skips(gate, request, candidate, batch_size, workload):
    request.getfixturevalue("timed_engine")

def test_no_gate(candidate):
    pass
"""


def write(suite, text):
    (suite.folder / "tests_perf" / "test_own.py").write_text(text, encoding="utf-8")
    return ("tests_perf/test_own.py", "--precision=int8_wo", "--batch-size=1")


def concluding(monkeypatch, status):
    """Let every gate conclude this."""
    real = enginegate.plugin.gate.judge
    monkeypatch.setattr(enginegate.plugin.gate, "judge", lambda *args: dataclasses.replace(real(*args), status=status))


@pytest.mark.parametrize(
    ("status", "option"),
    [(Status.FAIL, "-v"), (Status.INCONCLUSIVE, "--strict-gates"), (Status.NO_BASELINE, "--require-baseline")],
)
def test_a_verdict_that_is_not_asserted_fails_all_the_same(suite, monkeypatch, status, option):
    """All but the first of them passed, were skipped or expected to fail."""
    concluding(monkeypatch, status)
    monkeypatch.setenv("COLUMNS", "300")
    result = suite.run(*write(suite, IGNORED), option, "-rA")
    count = IGNORED.count("\ndef test_")
    outcomes = result.parseoutcomes()
    assert {name: outcomes[name] for name in outcomes if name != "warnings"} == {"failed": count - 1, "errors": 1}
    lines = [line for line in result.outlines if line.startswith(("FAILED tests_perf", "ERROR tests_perf"))]
    assert len(lines) == count
    assert all(f" - {status.value}: int8_wo engine size" in line for line in lines), (
        "each says what an assert would say"
    )
    assert suite.record().status == "complete", "all of them have verdicts"
    assert suite.record().warnings == []


def test_a_verdict_in_teardown_fails_too(suite, monkeypatch):
    text = (
        IGNORED.partition("def test_asserted")[0] + "def test_late(in_teardown, gate):\n    assert gate.build_time()\n"
    )
    real = enginegate.plugin.gate.judge

    def judge(inputs, record):
        verdict = real(inputs, record)
        return dataclasses.replace(verdict, status=Status.FAIL) if inputs.metric == "engine_size" else verdict

    monkeypatch.setattr(enginegate.plugin.gate, "judge", judge)
    result = suite.run(*write(suite, text))
    assert result.parseoutcomes()["errors"] == 1
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_late*", "*FAIL: int8_wo engine size*"])


def test_a_test_without_a_verdict_is_an_error_of_its_own(suite):
    result = suite.run(*write(suite, WITHOUT), "-rA")
    count = WITHOUT.count("\ndef test_")
    outcomes = result.parseoutcomes()
    assert {name: outcomes[name] for name in outcomes if name != "warnings"} == {"failed": count - 1, "errors": 1}
    output = result.stdout.str()
    assert "a gated test needs a verdict: no gate was asked" in output
    assert "and it ended by Skipped: no time" in output
    assert "gate.perplexity could not judge: " in output
    record = suite.record()
    assert record.status == "partial"
    assert len(record.warnings) == count
    told = [line for line in record.warnings if "ended without a verdict" in line]
    assert len(told) == count - 1, "the last one has one verdict of two"


def test_what_may_end_so_does(suite):
    result = suite.run(*write(suite, SOUND), "-rA", "--precision=fp32")
    outcomes = result.parseoutcomes()
    assert "failed" not in outcomes
    assert "errors" not in outcomes
    assert outcomes["skipped"] == 3
    assert outcomes["xfailed"] == 1
    assert suite.record().status == "complete"


@pytest.mark.heavy
def test_without_assert_statements_no_test_passes_unseen(suite):
    """Under python -O with plain asserts the gate is not even asked; every test passed."""
    arguments = suite.arguments("tests_perf/test_build.py", "--precision=int8_wo", "--assert=plain")
    result = suite.pytester.run(sys.executable, "-O", "-m", "pytest", *arguments)
    assert result.parseoutcomes()["failed"] == 2
    result.stdout.fnmatch_lines(["*no gate was asked*", "*python -O leaves assert statements out*"])
    assert suite.record().status == "partial"
