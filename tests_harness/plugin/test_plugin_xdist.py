"""Spread over worker processes: one record, each engine built once, and nothing timed beside other work."""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace

import pytest
from enginegate.plugin.workers import plain_id
from enginegate.storage.texts import load_texts
from workspace import make_workspace

pytest_plugins = ["pytester"]

SPEED = "tests_perf/test_speedup.py"


@pytest.fixture
def fresh(suite, tmp_path):
    """A suite whose cache is empty."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    suite.workspace = make_workspace(folder)
    return suite


def run(suite, monkeypatch, *args):
    for name, value in suite.workspace.environment.items():
        monkeypatch.setenv(name, value)
    return suite.run_apart(*args)


def test_quality_tests_share_engines_and_end_in_one_record(fresh, monkeypatch):
    result = run(
        fresh,
        monkeypatch,
        "-n2",
        "--dist=loadgroup",
        "tests_quality",
        "--precision=int8_wo,bf16",
        "-k",
        "not similarity",
    )
    record = fresh.record()
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    events = Counter(fresh.workspace.events())
    engines = ["toy-fake-bf16", "toy-fake-fp32", "toy-fake-int8_wo"]
    assert {event: count for event, count in events.items() if event.startswith("build")} == {
        f"build {name}": 1 for name in engines
    }
    assert record.status == "complete"
    assert record.warnings == []
    assert sorted(entry.id for entry in record.engines) == engines
    tests = [verdict.test for verdict in record.verdicts]
    assert len(tests) == len(set(tests)) == 10
    assert len(list((fresh.folder / "runs").glob("*/run.json"))) == 1
    assert result.stdout.str().count("complete run") == 1
    texts = load_texts(fresh.folder / "runs" / record.id)
    assert texts.metrics["summaries"].answers.keys() == {"toy-fake-bf16", "toy-fake-int8_wo"}, "of both workers"


@pytest.mark.heavy
def test_perf_tests_are_refused_and_a_worker_that_crashes_leaves_a_partial_record(suite):
    suite.prepare("Deadly", precision="int4_wo")
    result = suite.run_apart(
        "-n2", SPEED, "tests_quality/test_perplexity.py", "--precision=int8_wo,int4_wo", "--batch-size=1"
    )
    outcomes = result.parseoutcomes()
    assert outcomes["errors"] == 2
    assert outcomes["failed"] == 1
    assert "passed" not in outcomes
    output = result.stdout.str()
    assert output.count("a perf test runs in xdist worker") >= 2
    assert "run tests_perf without -n" in output
    record = suite.record()
    assert record.status == "partial"
    assert any(re.match(r"xdist worker gw\d crashed", line) for line in record.warnings)
    assert [verdict.engine for verdict in record.verdicts] == ["toy-fake-int8_wo"], "it came before the crash"
    assert f"partial run {record.id}" in output


def test_group_that_xdist_appends_is_no_part_of_the_name_in_the_record():
    class Item:
        nodeid = "tests_quality/test_perplexity.py::test_perplexity[toy]@toy"
        config = SimpleNamespace(workerinput={})

        def get_closest_marker(self, name):
            return pytest.mark.xdist_group("toy").mark if name == "xdist_group" else None

    assert plain_id(Item()) == "tests_quality/test_perplexity.py::test_perplexity[toy]"


@pytest.mark.parametrize("ended", ["Terminated", pytest.param("Cancelled", marks=pytest.mark.heavy)])
def test_sigterm_loses_nothing_that_workers_had_concluded_and_counts_nothing_twice(suite, ended):
    """In a worker alone, and in the controller."""
    suite.prepare(ended, precision="int4_wo")
    result = suite.run_apart(
        "-n1",
        "--dist=loadgroup",
        "tests_quality/test_perplexity.py",
        "tests_quality/test_determinism.py",
        "--precision=int8_wo,int4_wo",
    )
    assert result.ret != pytest.ExitCode.OK
    record = suite.record()
    assert record.status == "partial"
    tests = [verdict.test for verdict in record.verdicts]
    assert len(tests) == len(set(tests)) >= 1, tests
