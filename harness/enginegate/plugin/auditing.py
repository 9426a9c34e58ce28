"""``pytest --eg-gate-audit``: the audit runs alone, and its result is told."""

from __future__ import annotations

import pytest

from enginegate.gates.audit import one_line, power_line
from enginegate.gates.sequential import restore_policy
from enginegate.plugin.ours import gate_count
from enginegate.session.gate_session import GateSession
from enginegate.storage.audits import AnyAudit, AuditedLaunches
from enginegate.storage.baselines import MAX_SESSIONS
from enginegate.verdicts.audit import judged_by, result
from enginegate.verdicts.launch_audit import report

#: Numbers of stored sessions for which an audit says what its gate would see.
STORED = (1, 3, MAX_SESSIONS)


def separate_audit(config: pytest.Config, items: list[pytest.Item], session: GateSession) -> None:
    """Keep the audit's tests under ``--eg-gate-audit``, and all others without it.

    The audited gate gets the share of the error budget that it would have among the tests that are left out.
    """
    audits = [item for item in items if item.get_closest_marker("eg_audit")]
    others = [item for item in items if not item.get_closest_marker("eg_audit")]
    if session.options.audit:
        session.budget = sum(gate_count(item) for item in others)
    kept, dropped = (audits, others) if session.options.audit else (others, audits)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def audit_report(gate: AnyAudit) -> str:
    """What an audit found, in a few lines."""
    if isinstance(gate, AuditedLaunches):
        return "\n".join(report(gate))
    found, latest = result(gate), gate.sessions[-1]
    lines = [f"{gate.engine} {gate.workload} {gate.metric}: {one_line(found)}"]
    lines += [f"  {power_line(judged_by(gate, sessions, restore_policy(gate.policy)))}" for sessions in STORED]
    lines.append(
        f"  {found.blocks} blocks in {found.sessions} sessions, noise {100 * found.noise:.1f} % a block,"
        f" {found.mean_blocks:.1f} blocks used where nothing changed"
    )
    lines += [f"  really slowed by {100 * entry.slowdown:g} %: {entry.status}" for entry in latest.confirmations]
    lines += [f"  {warning}" for warning in found.warnings]
    return "\n".join(lines)
