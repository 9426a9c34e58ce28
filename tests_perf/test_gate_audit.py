"""The speed gates' own false alarms and power on this machine. Runs under ``--eg-gate-audit`` alone."""

import pytest
from enginegate.plugin.auditing import audit_report
from enginegate.verdicts.audit import CHANCE, shortcoming

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_audit]


def test_gate_audit(gate_session, candidate, batch_size):
    gates = gate_session.audit(candidate, batch_size)
    for gate in gates:
        gate_session.progress(audit_report(gate))
    found = [shortcoming(gate, CHANCE / len(gates)) for gate in gates]
    if any(found):  # no assert: python -O would leave it out
        pytest.fail("; ".join(filter(None, found)))
