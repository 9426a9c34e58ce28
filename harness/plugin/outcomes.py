"""How verdicts show in pytest: on the test's report, in its outcome letter, in JUnit XML and in the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.gates.verdict import Verdict
    from harness.plugin.session import GateSession

VERDICTS = pytest.StashKey["list[Verdict]"]()
#: Name of the report property that carries the statuses, also across xdist.
PROPERTY = "enginegate_verdict"
#: Statuses that let a test pass but must not be read as a pass: category, letter, word.
OTHER = {"INCONCLUSIVE": ("inconclusive", "I", "INCONCLUSIVE"), "NO_BASELINE": ("no baseline", "N", "NO BASELINE")}


def keep(item: pytest.Item, verdict: Verdict) -> None:
    """Remember a verdict for the test's report."""
    item.stash.setdefault(VERDICTS, []).append(verdict)


def attach(report: pytest.TestReport, item: pytest.Item) -> None:
    """Put the verdicts of a test on its report; they become JUnit properties."""
    for verdict in item.stash.get(VERDICTS, []):
        fields: dict[str, Any] = {
            PROPERTY: verdict.status.value,
            f"{verdict.metric}": verdict.estimate,
            f"{verdict.metric}_interval": f"[{verdict.interval[0]:.6g}, {verdict.interval[1]:.6g}]",
            f"{verdict.metric}_explanation": verdict.explanation,
        }
        report.user_properties.extend(fields.items())
        report.sections.append(
            (f"Verdict: {verdict.status.value}", "\n".join([verdict.explanation, *verdict.warnings]))
        )


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
    for line in session.warnings:
        reporter.write_line(f"warning: {line}", yellow=True)
    if not session.saved:
        return
    from rich.console import Console

    from harness.report.terminal import print_report

    console = Console(
        file=reporter._tw._file, force_terminal=reporter.hasmarkup, width=max(100, reporter._tw.fullwidth)
    )
    for record, path in session.saved:
        reporter.section(f"{record.model.name} on {record.fingerprint.key}", sep="-")
        print_report(record, console)
        reporter.write_line(f"{record.status} run {record.id}: {path.parent}")
