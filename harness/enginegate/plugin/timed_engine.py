"""One engine's part in an arena, and the inputs of the speed gates that read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from enginegate.core.records import ArenaEntry
from enginegate.core.specs import Workload
from enginegate.gates.audit import one_line, power_warning
from enginegate.gates.sequential import RATIO_SHIFT, SpeedPolicy, restore_policy
from enginegate.storage.baselines import PerfBaseline, assert_not_own_baseline, load_perf

if TYPE_CHECKING:
    from enginegate.config.loading import Config
    from enginegate.plan.selection import Candidate
    from enginegate.plugin.session import GateSession
    from enginegate.verdicts.audit import AuditedGate


@dataclass(frozen=True)
class TimedEngine:
    """One engine's part in an arena: the samples that its speed is judged by."""

    candidate: Candidate
    workload: Workload
    arena: ArenaEntry


def perf_baseline(session: GateSession, config: Config, workload: Workload) -> PerfBaseline | None:
    """The accepted speed and memory on this machine, or None. Raises BaselineError where it cannot be used."""
    bench = session.bench(config)
    baseline = load_perf(
        session.options.baselines,
        session.fingerprint.key,
        config.name,
        bench.checkpoint.digest,
        workload.id,
        bench.reference().id,
    )
    if baseline is not None:
        assert_not_own_baseline(session.record_id(config.name), baseline)
    return baseline


def speed_inputs(session: GateSession, candidate: Candidate, workload: Workload, metric: str) -> dict[str, Any]:
    """What a speed gate compares with: the stored sessions, else the portable floor, else nothing."""
    reference = session.bench(candidate.config).reference()
    policy = speed_policy(session, candidate.config, metric)
    audited = _audited(session, candidate, workload, reference.id, metric)
    if audited is not None:
        policy = replace(policy, correlation=audited.policy["correlation"])
    return {
        "gate": "speed",
        "metric": metric,
        "workload": workload.id,
        "candidate": candidate.id,
        "reference": reference.id,
        "reference_label": f"{reference.backend}-{reference.precision}",
        "subject": f"{candidate.spec.precision} b{workload.batch_size}"
        + ("" if metric == "speedup" else f" {metric.upper()}"),
        "against": _against(session, candidate, workload, metric),
        "policy": asdict(policy),
    }


def speed_remarks(
    session: GateSession, candidate: Candidate, workload: Workload, inputs: dict[str, Any]
) -> dict[str, Any]:
    """What is said beside a speed verdict: warnings, and what the audit says that this gate sees.

    Resampled for that very gate, which takes too long for each engine of an arena each time that one is asked about.
    """
    notes, line = [], None
    audited = _audited(session, candidate, workload, inputs["reference"], inputs["metric"])
    if audited is not None:
        policy, against = restore_policy(inputs["policy"]), inputs["against"] or {}
        audit = audited.judged_by(len(against.get("sessions", [])), policy)
        line, warning = one_line(audit), power_warning(audit, policy)
        notes = [warning] if warning else []
    baseline = perf_baseline(session, candidate.config, workload)
    if baseline is not None and candidate.id in baseline.engines:
        notes += baseline.version_changes(candidate.id, session.fingerprint.context["libraries"])
    return {"notes": notes, "audit": line}


def speed_policy(session: GateSession, config: Config, metric: str) -> SpeedPolicy:
    """The speed gate's margins, and its share of the session's error budget."""
    section = config.file.gates.speed
    return SpeedPolicy(
        margin=section.margin,
        tolerated=section.tolerated,
        alpha=session.alpha(config),
        beta=section.beta,
        looks=tuple(section.looks),
        shift=replace(RATIO_SHIFT, scale=getattr(section.shift, metric)),
    )


def _audited(
    session: GateSession, candidate: Candidate, workload: Workload, reference: str, metric: str
) -> AuditedGate | None:
    return session.audits.of(candidate.id, workload.id, reference, metric) if session.audits else None


def _against(session: GateSession, candidate: Candidate, workload: Workload, metric: str) -> dict[str, Any] | None:
    baseline = perf_baseline(session, candidate.config, workload)
    engine = baseline.engines.get(candidate.id) if baseline else None
    sessions = engine.log_ratios(metric) if engine else []
    if sessions:
        orders = engine.orders(metric) if engine else []
        return {"kind": "baseline", "sessions": sessions} | ({"orders": orders} if any(orders) else {})
    if session.options.require_baseline:
        return None
    floors: dict[str, float] = getattr(
        candidate.config.floors(candidate.spec.backend, candidate.spec.precision), metric
    )
    floor = floors.get(f"b{workload.batch_size}")
    return None if floor is None else {"kind": "floor", "ratio": floor}
