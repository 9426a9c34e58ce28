"""The speed gates' own false alarms and power on this machine. Runs under ``--gate-audit`` alone."""

import pytest

from harness.gates.sequential import SpeedPolicy
from harness.plugin.auditing import audit_report

pytestmark = [pytest.mark.perf, pytest.mark.audit]


def test_gate_audit(gate_session, candidate, batch_size):
    gates = gate_session.audit(candidate, batch_size)
    for gate in gates:
        gate_session.progress(audit_report(gate))
    for gate in gates:
        policy = SpeedPolicy(**{**gate.policy, "shift": SpeedPolicy().shift})
        what = f"{gate.metric}: "
        assert gate.result.false_alarms.interval[0] <= policy.alpha, what + "more false alarms than the gate states"
        unseen = [entry for entry in gate.sessions[-1].confirmations if entry.slowdown >= policy.tolerated]
        assert all(entry.status != "PASS" for entry in unseen), what + f"a real slowdown passed: {unseen}"
