"""The gates audit themselves: false alarms and power, measured on the machine at hand.

One engine races against itself and against the live reference, and slowed copies of it race along
(session.audit_race). The resampled blocks go through the real gate (enginegate.gates.audit); the slowed copies confirm
one or two points by real delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import scipy

from enginegate.core.errors import BaselineError
from enginegate.gates.audit import AuditResult, audit, autocorrelation, restore
from enginegate.gates.sequential import SpeedPolicy, restore_policy
from enginegate.storage.audits import (
    AnyAudit,
    AuditedGate,
    AuditedLaunches,
    AuditFile,
    AuditSession,
    audit_path,
    update_audit,
)
from enginegate.verdicts.launch_audit import RESAMPLES, at, audited_launches

#: How often an audit may find too many false alarms where there are none.
CHANCE = 0.01


def new_gate(
    engine: str, reference: str, workload: str, metric: str, policy: SpeedPolicy, session: AuditSession
) -> AuditedGate:
    """The audit of one metric's gate by one session.

    Args:
        engine, reference: engine ids.
        workload: workload id.
        metric: ``speedup``, ``ttft`` or ``itl``.
        policy: of the gate.
        session: what was measured.
    """
    empty = AuditedGate(
        engine=engine,
        workload=workload,
        reference=reference,
        metric=metric,
        policy=asdict(policy),
        sessions=[],
        same={},
        live={},
    )
    return audited(empty, [session])


def audited(gate: AuditedGate, sessions: Sequence[AuditSession]) -> AuditedGate:
    """The same gate audited over ``sessions``, with the autocorrelation that they show."""
    live, ran = _live(sessions)
    correlation = max(0.0, autocorrelation(live, ran))
    policy = replace(restore_policy(gate.policy), correlation=correlation)  # as the gates are told
    same = audit([each.same for each in sessions], policy, orders=[each.same_orders for each in sessions])
    return gate.model_copy(
        update={
            "policy": asdict(policy),
            "sessions": list(sessions),
            "same": asdict(same),
            "live": asdict(audit(live, policy, orders=ran)),
        }
    )


def result(gate: AuditedGate) -> AuditResult:
    """The audit on the gate's own numbers, whose noise is that of both engines."""
    return restore(gate.live)


def judged_by(gate: AuditedGate, sessions: int, policy: SpeedPolicy) -> AuditResult:
    """The audit of a gate with that policy that is judged by so many stored sessions of this noise.

    Nothing shifts between the resampled sessions: what the power loses is to the policy's belief that it might.
    """
    live, ran = _live(gate.sessions)
    return audit(live, policy, orders=ran, baseline_sessions=sessions)


def shortcoming(gate: AnyAudit, chance: float) -> str | None:
    """What an audit shows its gate to be worse at than it states where nothing changed, or None.

    ``chance``: how often it may find too many false alarms where there are none.
    """
    if isinstance(gate, AuditedLaunches):
        policy, resamples, share = gate.policy, RESAMPLES, at(gate.rates, 0.0).fails
    else:
        found = result(gate)
        policy, resamples, share = restore_policy(gate.policy), found.resamples, found.false_alarms.value
        passed = [each for each in gate.sessions[-1].confirmations if each.slowdown >= policy.tolerated]
        if any(entry.status == "PASS" for entry in passed):
            return f"{gate.metric}: a real slowdown passed: {passed}"
    alarms = round(share * resamples)
    if scipy.stats.binomtest(alarms, resamples, policy.alpha, alternative="greater").pvalue >= chance:
        return None
    stated = f"the {100 * policy.alpha:.3g} % that the gate states"
    return f"{gate.metric}: {alarms} false alarms in {resamples}, more than {stated}"


def continued(file: AuditFile, gate: AnyAudit) -> AnyAudit:
    """``gate`` audited over the sessions of ``file`` and its own. Raises BaselineError where its own are in there."""
    before = file.gates.get(gate.key)
    if before is None:
        return gate
    if {session.run for session in before.sessions} & {session.run for session in gate.sessions}:
        raise BaselineError(
            f"the audit of run {gate.sessions[0].run} was accepted before, and a run is accepted once",
            "accept another run, or leave it as it is",
        )
    if isinstance(gate, AuditedLaunches) and isinstance(before, AuditedLaunches):
        return audited_launches(gate, [*before.sessions, *gate.sessions])
    if isinstance(gate, AuditedGate) and isinstance(before, AuditedGate):
        return audited(gate, [*before.sessions, *gate.sessions])
    raise BaselineError(
        f"the accepted audit of {gate.key} is of another kind than this one", "the file is damaged: restore it"
    )


def accept_audit(run: AuditFile, root: Path) -> Path:
    """Add a run's audits to the accepted ones of its machine, and audit every gate again over all its sessions.

    Whoever accepts at the same time waits. Raises BaselineError where the run was accepted before, or writing fails.
    """

    def with_run(before: AuditFile | None) -> AuditFile:
        file = before or AuditFile(fingerprint=run.fingerprint, gates={})
        gates = {key: continued(file, gate) for key, gate in run.gates.items()}
        return file.model_copy(update={"gates": {**file.gates, **gates}})

    return update_audit(audit_path(root, run.fingerprint), with_run)


def _live(sessions: Sequence[AuditSession]) -> tuple[list[list[float]], list[list[int]]]:
    """The gate's own numbers of each session, and the order of their blocks."""
    return [centred(session.live) for session in sessions], [session.live_orders for session in sessions]


def centred(ratios: Sequence[float]) -> list[float]:
    """The series about its own middle: what the speed-up itself is does not matter to the audit."""
    return [float(value) for value in np.asarray(ratios) - np.median(ratios)]
