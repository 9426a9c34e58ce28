"""A faster engine that is not the same engine any more: its speed PASS is withdrawn when the session ends."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from enginegate.cli import main

pytest_plugins = ["pytester"]
TESTS = ("tests_perf/test_speedup.py", "tests_quality/test_perplexity.py", "--batch-size=1", "--precision=int8_wo")
ENGINE = "toy-fake-int8_wo"


def test_a_speed_pass_of_an_engine_whose_quality_failed_is_withdrawn(suite):
    floors = {"fake": {"int8_wo": {"speedup": {"b1": 1.5}, "perplexity_ratio": 1.01}}}
    suite.prepare(sabotage="Unsure")
    config = suite.workspace.variant(suite.folder.name, floors=floors)
    result = suite.run(*TESTS, "--junitxml=junit.xml", config=config)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    record = suite.record()
    assert {entry.metric: entry.status for entry in record.verdicts} == {"speedup": "PASS", "perplexity": "FAIL"}
    (joint,) = record.joint
    assert (joint.engine, joint.status) == (ENGINE, "FAIL")
    assert "its speed PASS is withdrawn: it is not the same engine: int8_wo perplexity" in joint.explanation
    cases = ElementTree.parse(suite.folder / "junit.xml").getroot().iter("testcase")
    names = [case.get("name") for case in cases if case.find("failure") is not None]
    assert f"joint[{ENGINE}]" in names
    result.stdout.fnmatch_lines(["*withdrawn*"])
    run = suite.folder / "runs" / record.id
    assert "Speed and quality together" in (run / "summary.md").read_text(encoding="utf-8")
    assert main(["accept", str(run), "--baselines", str(suite.folder / "baselines")]) == 2


def test_one_whose_quality_holds_keeps_it(suite):
    suite.prepare()
    result = suite.run(*TESTS)
    record = suite.record()
    assert result.ret == 0
    assert not [entry for entry in record.joint if entry.status == "FAIL"]
    assert record.quality_planned == [ENGINE]


def test_quality_that_was_to_be_tested_and_gave_no_verdict_withdraws_it(suite):
    """The session is stopped after the speed tests, as by ``-x`` or a crash, and would have ended green."""
    more = """
import pytest

@pytest.fixture
def quality():
    pytest.skip("not today")
"""
    suite.prepare(more=more)
    (suite.folder / "tests_quality" / "conftest.py").write_text(
        "from enginegate.fixtures.suite import *  # noqa: F403\n" + more, encoding="utf-8"
    )
    result = suite.run(*TESTS)
    record = suite.record()
    assert [entry.status for entry in record.verdicts] == ["PASS"]
    (joint,) = record.joint
    assert "its quality was to be tested, and gave no verdict" in joint.explanation
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_speed_alone_is_judged_alone(suite):
    suite.prepare()
    assert suite.run(*TESTS[:1], *TESTS[2:]).ret == 0
    assert not suite.record().joint
