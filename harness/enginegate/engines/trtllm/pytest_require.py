"""``--require-trtllm``: every skip fails, so that a GPU job cannot be green without having run."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

OPTION = "--require-trtllm"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.getgroup("enginegate").addoption(
        OPTION, action="store_true", help="turn every skip into a failure, for a job that must run TensorRT-LLM"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test fails; one that is expected to fail and does stays as it is."""
    report = yield
    if item.config.getoption(OPTION) and report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself fails."""
    report = yield
    if collector.config.getoption(OPTION) and report.skipped:
        _fail(report)
    return report


def _fail(report: Any) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{reason}\n{OPTION} is given, so what is skipped has failed"
