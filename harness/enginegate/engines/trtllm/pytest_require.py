"""``--eg-require-trtllm``: every skip fails, so that a GPU job cannot be green without having run.

A pytest plugin that is registered where the option is given. What the suite itself skips on any machine, since there
is nothing to test (``NotTested``), stays skipped.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test fails; one that is expected to fail and does stays as it is."""
    report = yield
    nothing_to_test = call.excinfo is not None and getattr(call.excinfo.value, "nothing_to_test", False)
    if report.skipped and not hasattr(report, "wasxfail") and not nothing_to_test:
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself fails."""
    report = yield
    if report.skipped:
        _fail(report)
    return report


def _fail(report: Any) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{reason}\n--eg-require-trtllm is given, so what is skipped has failed"
