"""What a session keeps and writes: its time budget, its arenas, and its records when it is cut short."""

from __future__ import annotations

import signal

import pytest
from enginegate.core.errors import BaselineError
from enginegate.gates.robust import MIN_BLOCKS
from enginegate.storage.accept import check_acceptable

pytest_plugins = ["pytester"]

SPEED = "tests_perf/test_speedup.py"


def test_only_collected_engines_take_part_and_share_the_error_budget(suite):
    result = suite.run(SPEED, "-k", "int8_wo and b1")
    result.assert_outcomes(passed=1, deselected=3)
    record = suite.record()
    assert [arena.contestants for arena in record.arenas] == [["toy-fake-fp32", "toy-fake-int8_wo"]]
    assert [verdict.alpha for verdict in record.verdicts] == [0.01]


def test_all_collected_engines_meet_in_one_arena_with_one_round_of_the_reference_in_each_block(suite):
    suite.run(SPEED, "tests_perf/test_latency.py", "--batch-size=2")
    record = suite.record()
    (arena,) = record.arenas
    assert arena.contestants == ["toy-fake-fp32", "toy-fake-int8_wo", "toy-fake-int4_wo"]
    orders = [[entry.engine for entry in block.rounds] for block in arena.blocks[:2]]
    assert orders == [arena.contestants, arena.contestants[::-1]]
    assert {verdict.alpha for verdict in record.verdicts} == {round(0.01 / 6, 9)}


def test_time_budget_is_shared_by_the_arenas_and_kept(suite):
    budget = 0.04
    suite.run(SPEED, "--precision=int8_wo", f"--time-budget={budget}")
    arenas = suite.record().arenas
    assert len(arenas) == 2
    for arena in arenas:
        blocks = [sum(entry.seconds for entry in block.rounds) for block in arena.blocks]
        assert arena.stopped == f"time budget of {budget / 2:.0f} s spent"
        assert 1 <= len(blocks) < MIN_BLOCKS
        assert sum(blocks[:-1]) <= budget / 2 * 1.05, "no block is started after the budget is spent"
    verdicts = {verdict.workload: verdict for verdict in suite.record().verdicts}
    assert verdicts["b1-i16-o8"].status == "INCONCLUSIVE"
    assert f"fewer than the {MIN_BLOCKS}" in verdicts["b1-i16-o8"].explanation


def test_first_failure_that_ends_the_session_leaves_a_partial_record(suite):
    suite.prepare("OneTokenLess")
    first = "tests_perf/test_build.py::test_engine_size"
    result = suite.run(first, SPEED, "-k", "int8_wo", "-x")
    result.stdout.fnmatch_lines(["*1 error, 1 no baseline*"])
    record = suite.record()
    assert record.status == "partial"
    with pytest.raises(BaselineError, match="partial"):
        check_acceptable(record, force=False)


def test_failing_gates_alone_leave_a_complete_record_but_a_cut_session_does_not(suite):
    letters = ("tests_quality/test_multiple_choice.py", "--precision=int8_wo", "--require-baseline")
    suite.run(*letters)
    assert suite.record().status == "complete"
    result = suite.run(*letters, "-x")
    assert len(suite.record().verdicts) == 1, result.stdout.str()
    assert suite.record().status == "partial"


def test_each_model_gets_a_record_of_its_own(suite):
    other = suite.workspace.variant("other", model={"name": "other", "source": "path:checkpoint"})
    result = suite.run(
        "tests_perf/test_build.py", "--precision=int8_wo", "-k", "size", config=f"{suite.workspace.config},{other}"
    )
    folders = {path.parent.name for path in (suite.folder / "runs").glob("*/run.json")}
    assert {name.rpartition("-")[2] for name in folders} == {"toy", "other"}
    assert len(folders) == 2
    assert result.stdout.str().count("complete run") == 2


def test_session_without_engines_prints_and_writes_nothing(suite):
    (suite.folder / "test_other.py").write_text("def test_other(): assert True\n", encoding="utf-8")
    result = suite.run("test_other.py")
    result.assert_outcomes(passed=1)
    assert not (suite.folder / "runs").exists()
    said = [line for line in result.outlines if not line.startswith("plugins: ")]
    for word in ("enginegate", "verdict", "partial run", "complete run", "warning"):
        assert word not in "\n".join(said)


def test_engine_that_cannot_be_closed_is_told(suite):
    suite.prepare("Unclosable")
    result = suite.run("tests_perf/test_build.py", "--precision=int8_wo", "-k", "size")
    result.stdout.fnmatch_lines(["warning: closing the engines of toy: it will not close"])
    assert suite.record().warnings == ["closing the engines of toy: it will not close"]


@pytest.mark.parametrize("signal", ["Interrupted", "Terminated"])
def test_interrupt_closes_the_engines_and_leaves_a_partial_record(suite, signal):
    before = len(suite.workspace.events())
    suite.prepare(signal)
    result = suite.run_apart(SPEED, "--precision=int8_wo", "--batch-size=1")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
    events = suite.workspace.events()[before:]
    loaded = sorted(event.removeprefix("load ") for event in events if event.startswith("load "))
    closed = sorted(event.removeprefix("close ") for event in events if event.startswith("close "))
    assert loaded == closed == ["toy-fake-fp32", "toy-fake-int8_wo"]
    record = suite.record()
    assert record.status == "partial"
    assert {entry.id for entry in record.engines} == set(loaded)
    result.stdout.fnmatch_lines([f"partial run {record.id}:*"])


EXITS = {
    "after the test": "def pytest_runtest_logfinish(nodeid):\n    pytest.exit('done', returncode=0)\n",
    "in teardown": "def pytest_runtest_teardown(item):\n    pytest.exit('done', returncode=0)\n",
    "at the end": "def pytest_sessionfinish(session):\n    pytest.exit('done', returncode=0)\n",
    "at the end, last": (
        "@pytest.hookimpl(trylast=True)\ndef pytest_sessionfinish(session):\n    pytest.exit('done', returncode=0)\n"
    ),
    "by the session's status": "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n",
}


@pytest.mark.parametrize("place", EXITS)
def test_nobody_ends_a_session_with_a_refused_verdict_as_if_all_were_well(suite, place):
    suite.prepare(more=f"\nimport pytest\n{EXITS[place]}")
    size = ("tests_perf/test_build.py", "--precision=int8_wo", "-k", "size")
    assert suite.run(*size, "--require-baseline").ret == pytest.ExitCode.TESTS_FAILED
    record = suite.record()
    assert [verdict.accepted for verdict in record.verdicts] == [False]
    if "end" not in place and "status" not in place:
        assert record.status == "partial"
        with pytest.raises(BaselineError, match="partial"):
            check_acceptable(record, force=False)


def test_a_session_that_was_ended_early_is_partial_and_ends_as_it_was_told_to(suite):
    """It leaves SIGTERM to the session around it, which would not hear it any more."""
    before = signal.getsignal(signal.SIGTERM)
    suite.prepare(more=f"\nimport pytest\n{EXITS['after the test']}")
    assert suite.run("tests_perf/test_build.py", "--precision=int8_wo", "-k", "size").ret == pytest.ExitCode.OK
    record = suite.record()
    assert [verdict.accepted for verdict in record.verdicts] == [True]
    assert record.status == "partial"
    assert signal.getsignal(signal.SIGTERM) is before


ENDS = """
import pytest

@pytest.mark.usefixtures("built")
def test_ends(gate):
    gate.engine_size()
    pytest.exit("done", returncode=0)
"""


def test_a_refused_verdict_counts_where_its_test_ends_the_session(suite):
    (suite.folder / "tests_perf" / "test_ends.py").write_text(ENDS, encoding="utf-8")
    result = suite.run("tests_perf/test_ends.py", "--precision=int8_wo", "--require-baseline")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert suite.record().status == "partial"
