"""One engine at several sizes of work, swept once in a session."""

from __future__ import annotations

from enginegate.core.records import SweepEntry
from enginegate.plan.scaling import itl_series, sweep_points, throughput_series
from enginegate.plan.selection import Candidate
from enginegate.session.gate_session import GateSession
from enginegate.verdicts.scaling import sweep_undecided


def sweep(session: GateSession, candidate: Candidate) -> SweepEntry:
    """The engine's sweep, which is run when it is first asked for. Raises EngineGateError where it cannot be had."""
    config = candidate.config
    section, alpha = config.file.scaling, session.plan.alpha(config)
    series = [each for make in (throughput_series, itl_series) for each in make(candidate) if each.steps]
    gates = [each.inputs(alpha) for each in series]
    entry = session.bench(config).sweep(
        candidate.spec,
        candidate.runtime,
        sweep_points(candidate),
        lambda found: not any(sweep_undecided(gate, found) for gate in gates),
        session.options.time_budget or section.time_budget,
        section.looks[-1],
    )
    session.save_if_changed()
    return entry
