"""How verdicts show in pytest: on the test's report, in its outcome letter, in JUnit XML and in the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from enginegate.core.errors import EngineGateError
from enginegate.plugin.ours import CANDIDATE, needs
from enginegate.plugin.workers import plain_id

if TYPE_CHECKING:
    from enginegate.gates.verdict import Verdict
    from enginegate.session.gate_session import GateSession

VERDICTS = pytest.StashKey["list[Verdict]"]()
#: Name of the report property that carries the statuses, also across xdist.
PROPERTY = "enginegate_verdict"
#: Statuses that let a test pass but must not be read as a pass: category, letter, word.
OTHER = {"INCONCLUSIVE": ("inconclusive", "I", "INCONCLUSIVE"), "NO_BASELINE": ("no baseline", "N", "NO BASELINE")}


def keep(item: pytest.Item, verdict: Verdict) -> None:
    """Remember a verdict of a test, and put it among the properties that its reports carry to JUnit XML and xdist."""
    item.stash.setdefault(VERDICTS, []).append(verdict)
    item.user_properties.extend(_properties(verdict).items())


def _properties(verdict: Verdict) -> dict[str, Any]:
    return {
        PROPERTY: verdict.status.value,
        f"{verdict.metric}": verdict.estimate,
        f"{verdict.metric}_interval": f"[{verdict.interval[0]:.6g}, {verdict.interval[1]:.6g}]",
        f"{verdict.metric}_explanation": verdict.explanation,
    }


def forget(item: pytest.Item, session: GateSession) -> None:
    """A test runs again: the verdicts and properties of its last attempt do not count, nor how it ended."""
    ours = {name for verdict in item.stash.get(VERDICTS, []) for name in _properties(verdict)}
    item.user_properties[:] = [each for each in item.user_properties if each[0] not in ours]
    item.stash[VERDICTS] = []
    session.forget(plain_id(item))


def refused(item: pytest.Item) -> list[Verdict]:
    """The verdicts of a test that do not let it pass."""
    return [verdict for verdict in item.stash.get(VERDICTS, []) if not verdict]


def explain(item: pytest.Item, error: BaseException) -> None:
    """Have a failed ``assert verdict`` say what the verdict says, in place of the values in the expression."""
    if isinstance(error, AssertionError) and refused(item):
        lines = [
            line
            for verdict in refused(item)
            for line in (f"{verdict.status.value}: {verdict.explanation}", *verdict.warnings)
        ]
        error.args = ("\n".join(lines),)


def error_reason(item: pytest.Item, error: BaseException) -> str | None:
    """Why a test of an engine ended without a verdict: the first line of its error; None where it has a verdict."""
    if refused(item) or not needs(item, CANDIDATE):
        return None
    return str(error).partition("\n")[0] or type(error).__name__


def shorten(report: pytest.TestReport, item: pytest.Item, failure: pytest.ExceptionInfo[BaseException]) -> None:
    """The suite's own errors name the thing, the reason and the hint: no traceback, unless a style was asked for."""
    if isinstance(failure.value, EngineGateError) and item.config.getoption("tbstyle", "auto") == "auto":
        report.longrepr = failure.getrepr(style="value", chain=False)


def outcome_of(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """The outcome of a passed test whose verdict is not a PASS."""
    if report.when != "call" or not report.passed:
        return None
    statuses = [value for name, value in report.user_properties if name == PROPERTY]
    for status, (category, letter, word) in OTHER.items():
        if status in statuses:
            return category, letter, (word, {"yellow": True})
    return None


def verdict_report(reporter: pytest.TerminalReporter, session: GateSession) -> None:
    """The table, the verdicts that are not a PASS, and where the files are."""
    recorded = [line for record, _ in session.saved for line in record.warnings]
    for line in dict.fromkeys([*session.warnings, *recorded]):
        reporter.write_line(f"warning: {line}", yellow=True)
    if not session.saved:
        return
    from rich.console import Console

    from enginegate.report.terminal import print_report

    console = Console(
        file=reporter._tw._file, force_terminal=reporter.hasmarkup, width=max(100, reporter._tw.fullwidth)
    )
    for record, path in session.saved:
        reporter.section(f"{record.model.name} on {record.fingerprint.key}", sep="-")
        print_report(record, console)
        reporter.write_line(f"{record.status} run {record.id}: {path.parent}")
