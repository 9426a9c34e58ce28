"""The gates audit themselves: false alarms and power, measured on the machine at hand.

One engine races against itself and against the live reference, and slowed copies of it race along. The resampled
blocks go through the real gate (enginegate.gates.audit); the slowed copies confirm one or two points by real delay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from enginegate.core.cache import exclusive, explained
from enginegate.core.errors import BaselineError
from enginegate.core.files import to_json, write_atomically
from enginegate.core.records import Block, Stored
from enginegate.core.specs import Workload
from enginegate.engines.base import Progress
from enginegate.engines.timing import Contestant
from enginegate.gates.audit import AuditResult, audit, autocorrelation, restore
from enginegate.gates.sequential import SpeedPolicy, restore_policy
from enginegate.gates.sessions import Known
from enginegate.gates.speed import replay_speed
from enginegate.machine.gpu import DeviceMonitor
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import has_value, log_ratios, orders
from enginegate.measure.slowed import SlowedContestant
from enginegate.storage.reading import Format

#: Raised when the meaning of a stored field changes; an audit file of another schema is refused.
SCHEMA = 2
#: Slowdowns that are confirmed with a really slowed engine.
CONFIRMED = (0.05, 0.10)


class Confirmation(Stored):
    """What the gate said of a really slowed engine."""

    slowdown: float
    status: str
    change: float | None
    explanation: str


class AuditSession(Stored):
    """One measured session of one metric: log ratios per block.

    Attributes:
        same: the engine against itself (A/A).
        live: the reference over the engine, the numbers that the speed gate works on.
        same_orders, live_orders: of each block, +1 where the first of the two ran first, else -1; empty where the
            blocks alternate.
        confirmations: verdicts on slowed copies of the engine.
    """

    run: str
    started: str
    same: list[float]
    live: list[float]
    confirmations: list[Confirmation]
    same_orders: list[int] = Field(default_factory=list)
    live_orders: list[int] = Field(default_factory=list)


class AuditedGate(Stored):
    """The audit of one engine's gate of one speed metric. ``same`` and ``live``: AuditResult as fields."""

    engine: str
    workload: str
    reference: str
    metric: str
    policy: dict[str, Any]
    sessions: list[AuditSession]
    same: dict[str, Any]
    live: dict[str, Any]

    @property
    def result(self) -> AuditResult:
        """The audit on the gate's own numbers, whose noise is that of both engines."""
        return restore(self.live)

    def judged_by(self, sessions: int, policy: SpeedPolicy) -> AuditResult:
        """The audit of a gate with that policy that is judged by so many stored sessions of this noise.

        Nothing shifts between the resampled sessions: what the power loses is to the policy's belief that it might.
        """
        live, ran = _live(self.sessions)
        return audit(live, policy, orders=ran, baseline_sessions=sessions)


class AuditFile(Stored):
    """All audits of one machine, by ``<engine>/<workload>/<reference>/<metric>``."""

    schema_version: int = SCHEMA
    fingerprint: str
    gates: dict[str, AuditedGate]

    def of(self, engine: str, workload: str, reference: str, metric: str) -> AuditedGate | None:
        """The audit of this very gate, or None: another engine's noise says nothing of this one's."""
        return self.gates.get(_key(engine, workload, reference, metric))

    def continued(self, gate: AuditedGate) -> AuditedGate:
        """``gate`` audited over the sessions that are here, and its own. Raises BaselineError where they are here."""
        before = self.of(gate.engine, gate.workload, gate.reference, gate.metric)
        if before is None:
            return gate
        if {session.run for session in before.sessions} & {session.run for session in gate.sessions}:
            raise BaselineError(
                f"the audit of run {gate.sessions[0].run} was accepted before; a run counts once",
                "accept another run, or leave it as it is",
            )
        return audited(gate, [*before.sessions, *gate.sessions])


def _key(engine: str, workload: str, reference: str, metric: str) -> str:
    return f"{engine}/{workload}/{reference}/{metric}"


#: The name of an audit's file, in a run's folder and beside a machine's baselines.
AUDIT_NAME = "audit.json"
_FORMAT = Format(
    AuditFile,
    "audit",
    SCHEMA,
    {},
    BaselineError,
    "restore it from version control, or move it away and run `pytest --gate-audit`",
)


def audit_path(root: Path, fingerprint: str) -> Path:
    """Where the accepted audits of one machine lie."""
    return root / "perf" / fingerprint / AUDIT_NAME


def load_audit(root: Path, fingerprint: str) -> AuditFile | None:
    """The accepted audits of one machine, or None. Raises BaselineError where the file cannot be used."""
    return _FORMAT.read(audit_path(root, fingerprint))


def load_run_audit(folder: Path) -> AuditFile | None:
    """The audits that one run measured, or None. Raises BaselineError where the file cannot be used."""
    return _FORMAT.read(folder / AUDIT_NAME)


def save_run_audit(file: AuditFile, folder: Path) -> Path:
    """Write what a run's audit measured into the run's folder. Raises BaselineError."""
    return _write(folder / AUDIT_NAME, file)


def accept_audit(run: AuditFile, root: Path) -> Path:
    """Add a run's audits to the accepted ones of its machine, and audit every gate again over all its sessions.

    Whoever accepts at the same time waits. Raises BaselineError where the run was accepted before, or writing fails.
    """
    path = audit_path(root, run.fingerprint)
    with explained(path.parent, BaselineError), exclusive(path, lambda _: None):
        file = load_audit(root, run.fingerprint) or AuditFile(fingerprint=run.fingerprint, gates={})
        continued = {key: file.continued(gate) for key, gate in run.gates.items()}
        return _write(path, file.model_copy(update={"gates": {**file.gates, **continued}}))


def _write(path: Path, file: AuditFile) -> Path:
    try:
        write_atomically(path, to_json(file.model_dump(mode="json")))
    except OSError as error:
        raise BaselineError(
            f"audit {path} cannot be written: {error.strerror or error}", "free some space, or name another folder"
        ) from error
    return path


def measure_session(
    engine: Contestant,
    reference: Contestant,
    workload: Workload,
    prompts: PromptPool,
    policies: Mapping[str, SpeedPolicy],
    *,
    run: str,
    started: str,
    blocks: int,
    time_budget: float,
    progress: Progress,
    monitor: DeviceMonitor | None = None,
) -> dict[str, AuditSession]:
    """Race the engine against itself, the reference and slowed copies of itself, in one arena.

    Args:
        engine, reference, workload, prompts: the race.
        policies: the policy of each metric's gate.
        run, started: of the session.
        blocks, time_budget: where the arena stops; seconds.
        progress, monitor: as the arena's.

    Returns:
        A session for each metric of ``policies`` that has values, all of the same rounds.

    Raises:
        EngineGateError: one of the two failed in the race.
    """
    slowed = {f"slowed by {100 * slowdown:g} %": SlowedContestant(engine, slowdown) for slowdown in CONFIRMED}
    arena = Arena(
        {"reference": reference, "same 1": engine, "same 2": engine, **slowed},
        "reference",
        workload,
        prompts,
        ArenaPolicy(time_budget=time_budget, max_blocks=blocks),
        monitor=monitor,
    )
    arena.run(lambda _: False, progress)
    for reason in arena.failures.values():
        raise reason
    valued = [metric for metric in policies if has_value(arena.blocks, list(arena.contestants), metric)]
    for metric in policies.keys() - valued:
        progress(f"{workload.id}: no audit of {metric}, of which a round has no value")
    return {
        metric: AuditSession(
            run=run,
            started=started,
            same=log_ratios(arena.blocks, "same 1", "same 2", metric),
            live=log_ratios(arena.blocks, "reference", "same 1", metric),
            same_orders=orders(arena.blocks, "same 1", "same 2"),
            live_orders=orders(arena.blocks, "reference", "same 1"),
            confirmations=[
                _confirm(arena.blocks, metric, policies[metric], name, slowdown)
                for name, slowdown in zip(slowed, CONFIRMED, strict=True)
            ],
        )
        for metric in valued
    }


def _confirm(blocks: Sequence[Block], metric: str, policy: SpeedPolicy, name: str, slowdown: float) -> Confirmation:
    ratios, ran = log_ratios(blocks, "same 1", name, metric), orders(blocks, "same 1", name)
    verdict = replay_speed(ratios, Known(1.0), policy, subject=name, order=ran)
    return Confirmation(
        slowdown=slowdown, status=verdict.status.value, change=verdict.change, explanation=verdict.explanation
    )


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


def file_of(fingerprint: str, gates: Sequence[AuditedGate]) -> AuditFile:
    """A file that holds these audits."""
    named = {_key(gate.engine, gate.workload, gate.reference, gate.metric): gate for gate in gates}
    return AuditFile(fingerprint=fingerprint, gates=named)


def _live(sessions: Sequence[AuditSession]) -> tuple[list[list[float]], list[list[int]]]:
    """The gate's own numbers of each session, and the order of their blocks."""
    return [centred(session.live) for session in sessions], [session.live_orders for session in sessions]


def centred(ratios: Sequence[float]) -> list[float]:
    """The series about its own middle: what the speed-up itself is does not matter to the audit."""
    return [float(value) for value in np.asarray(ratios) - np.median(ratios)]
