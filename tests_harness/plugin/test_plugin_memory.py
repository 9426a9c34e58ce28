"""Memory in a session's tables: the reference's peak is there, too; an engine without a law skips its test."""

from __future__ import annotations

from enginegate.report.rows import record_rows

pytest_plugins = ["pytester"]


def test_the_references_peak_is_in_the_table_and_no_law_is_no_verdict(suite):
    only = ("tests_perf/test_speedup.py", "tests_perf/test_memory.py", "--precision=int8_wo", "--batch-size=1")
    result = suite.run(*only)
    record = suite.record()
    peaks = {row.role: row.memory_mb for row in record_rows(record)}
    assert set(peaks) == {"candidate", "reference"}
    assert peaks["reference"] > 0
    assert result.parseoutcomes()["skipped"] == 1
    assert "memory_law" not in {verdict.metric for verdict in record.verdicts}


def test_without_a_timed_reference_its_memory_is_not_asked_for(suite):
    """Nobody wants engines timed, to find the fastest reference, for a memory test alone."""
    config = suite.workspace.variant("open", reference={"backend": "fake", "precision": "auto"})
    suite.run("tests_perf/test_memory.py", "--precision=int8_wo", "--batch-size=1", config=config)
    assert {entry.engine for entry in suite.record().memory} == {"toy-fake-int8_wo"}
