"""What a session says last: warnings, one screen for each model, where the full report is, and what comes next."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from enginegate.core.errors import BaselineError
from enginegate.core.terminal import in_ci
from enginegate.plugin.options import prefix

if TYPE_CHECKING:
    from enginegate.core.records import RunRecord
    from enginegate.session.gate_session import GateSession


def close_report(reporter: pytest.TerminalReporter, session: GateSession) -> None:
    """One screen of 80 columns for each model; with ``-v`` all tables and verdicts, which want 100."""
    from rich.console import Console

    from enginegate.report.reasons import alike
    from enginegate.report.terminal import print_report, print_screen

    everything = reporter.verbosity > 0
    recorded = [line for record, _ in session.saved for line in record.warnings]
    warnings = list(dict.fromkeys([*session.warnings, *recorded]))
    for line in warnings if everything else alike(warnings):
        reporter.write_line(f"warning: {line}", yellow=True)
    if not session.saved:
        return
    width = max(100 if everything else 0, reporter._tw.fullwidth)
    console = Console(file=reporter._tw._file, force_terminal=reporter.hasmarkup, width=width)
    for record, path in session.saved:
        reporter.section(f"{record.model.name} on {record.fingerprint.key}", sep="-")
        (print_report if everything else print_screen)(record, console)
        reporter.write_line(f"{record.status} run {record.id}: {path.parent / 'summary.md'}")
    for reason, count in _skipped(reporter).items():
        reporter.write_line(f"skipped {count}: {reason}")
    if not everything:
        folders = " ".join(str(path.parent) for _, path in session.saved)
        reporter.write_line(f"all verdicts and tables: -v, or `enginegate report {folders}`")
    if (step := next_step(reporter.config, session)) is not None:
        reporter.write_line(f"next: {step}", bold=True)


def _skipped(reporter: pytest.TerminalReporter) -> dict[str, int]:
    """How many tests of ours were skipped, by the reason."""
    ours = [report for report in reporter.stats.get("skipped", []) if {"eg_perf", "eg_quality"} & set(report.keywords)]
    reasons = [report.longrepr[2] for report in ours if isinstance(report.longrepr, tuple)]
    return dict(Counter(reason.partition(": ")[2] for reason in reasons))


def next_step(config: pytest.Config, session: GateSession) -> str | None:
    """What to do about speed that failed or is undecided, or what sees smaller changes; None where there is neither.

    None in CI and for a shard, too. What would be refused is not proposed.
    """
    from enginegate.storage.accept import check_acceptable
    from enginegate.storage.baselines import lock_path

    timed = [(record, path) for record, path in session.saved if _speed(record)]
    options = session.options
    if not timed or options.shard is not None or in_ci():
        return None
    statuses = {status for record, _ in timed for status in _speed(record)}
    race = f"`pytest {prefix(config)}against accepted`"
    if options.against is None and lock_path(options.baselines, session.fingerprint.key).is_file():
        purpose = "confirms it on the accepted engine, live" if "FAIL" in statuses else "sees small changes, too"
        return f"{race}: a race that {purpose}"
    if "FAIL" in statuses:
        return None
    if "INCONCLUSIVE" in statuses:
        seconds = math.ceil(2 * session.speed_budget / 100) * 100
        return f"the same with `{prefix(config)}time-budget {seconds}`: more rounds see smaller changes"
    if options.against is not None:
        return None
    try:
        for record, _ in timed:
            check_acceptable(record, force=False)
    except BaselineError:
        return None
    accept = " and ".join(f"`enginegate accept {path.parent}`" for _, path in timed)
    return f"{accept}, then {race}: a race that sees small changes, too"


def _speed(record: RunRecord) -> list[str]:
    """Statuses of a record's speed gates."""
    return [verdict.status for verdict in record.verdicts if verdict.inputs["gate"] == "speed"]
