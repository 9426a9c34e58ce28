"""The speed gates' own false alarms and power on this machine. Runs under ``--eg-gate-audit`` alone."""

import pytest
from enginegate.plugin.auditing import audit_report
from enginegate.verdicts.audit import result

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_audit]
#: How often an audit may find too many false alarms where there are none.
CHANCE = 0.01


def test_gate_audit(gate_session, candidate, batch_size):
    import scipy

    gates = gate_session.audit(candidate, batch_size)
    for gate in gates:
        gate_session.progress(audit_report(gate))
    for gate in gates:
        found = result(gate)
        resamples, alarms = found.resamples, round(found.false_alarms.value * found.resamples)
        alpha, tolerated = gate.policy["alpha"], gate.policy["tolerated"]
        what = f"{gate.metric}: "
        chance = scipy.stats.binomtest(alarms, resamples, alpha, alternative="greater").pvalue
        stated = f"{alarms} false alarms in {resamples}, more than the {100 * alpha:.3g} % that the gate states"
        if chance < CHANCE / len(gates):  # no assert: python -O would leave it out
            pytest.fail(what + stated)
        unseen = [entry for entry in gate.sessions[-1].confirmations if entry.slowdown >= tolerated]
        if any(entry.status == "PASS" for entry in unseen):
            pytest.fail(what + f"a real slowdown passed: {unseen}")
