"""The gates audit themselves: false alarms and power, measured on the machine at hand and kept by the baselines.

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

from enginegate.core.files import to_json, write_atomically
from enginegate.core.records import Block, Stored
from enginegate.core.specs import Workload
from enginegate.engines.base import Progress
from enginegate.engines.timing import Contestant
from enginegate.gates.audit import AuditResult, audit, autocorrelation, restore
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Known
from enginegate.gates.speed import replay_speed
from enginegate.machine.gpu import DeviceMonitor
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import has_value, log_ratios, orders
from enginegate.measure.slowed import SlowedContestant
from enginegate.storage.baselines import read_stored

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
        """The audit of this engine, else that of another one at the same workload, reference and metric."""
        exact = self.gates.get(_key(engine, workload, reference, metric))
        wanted = (workload, reference, metric)
        alike = (gate for gate in self.gates.values() if (gate.workload, gate.reference, gate.metric) == wanted)
        return exact or next(alike, None)


def _key(engine: str, workload: str, reference: str, metric: str) -> str:
    return f"{engine}/{workload}/{reference}/{metric}"


def audit_path(root: Path, fingerprint: str) -> Path:
    """Where the audits of one machine lie."""
    return root / "perf" / fingerprint / "audit.json"


def load_audit(root: Path, fingerprint: str) -> AuditFile | None:
    """The audits of one machine, or None. Raises BaselineError where the file is damaged or of another schema."""
    hint = "move it away and run `pytest --gate-audit`"
    return read_stored(audit_path(root, fingerprint), AuditFile, what="audit", schema=SCHEMA, hint=hint)


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


def add_sessions(
    root: Path,
    fingerprint: str,
    engine: str,
    reference: str,
    workload: str,
    policies: Mapping[str, SpeedPolicy],
    sessions: Mapping[str, AuditSession],
) -> list[AuditedGate]:
    """File one more session of each metric, and audit all of this engine's again; what is stored is returned."""
    file = load_audit(root, fingerprint) or AuditFile(fingerprint=fingerprint, gates={})
    gates = {}
    for metric, session in sessions.items():
        key, policy = _key(engine, workload, reference, metric), policies[metric]
        known = file.gates.get(key)
        measured = [*(known.sessions if known is not None else []), session]
        live, ran = _live(measured)
        policy = replace(policy, correlation=max(0.0, autocorrelation(live, ran)))  # as the gates will be told
        gates[key] = AuditedGate(
            engine=engine,
            workload=workload,
            reference=reference,
            metric=metric,
            policy=asdict(policy),
            sessions=measured,
            same=asdict(audit([each.same for each in measured], policy, orders=[e.same_orders for e in measured])),
            live=asdict(audit(live, policy, orders=ran)),
        )
    path = audit_path(root, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    updated = file.model_copy(update={"gates": {**file.gates, **gates}})
    write_atomically(path, to_json(updated.model_dump(mode="json")))
    return list(gates.values())


def _live(sessions: Sequence[AuditSession]) -> tuple[list[list[float]], list[list[int]]]:
    """The gate's own numbers of each session, and the order of their blocks."""
    return [centred(session.live) for session in sessions], [session.live_orders for session in sessions]


def centred(ratios: Sequence[float]) -> list[float]:
    """The series about its own middle: what the speed-up itself is does not matter to the audit."""
    return [float(value) for value in np.asarray(ratios) - np.median(ratios)]
