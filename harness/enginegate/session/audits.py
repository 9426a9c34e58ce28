"""An audit of the speed gates in a session: their own error rates, by blocks or, over a live base, by launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from enginegate.core.errors import ConfigError, MeasurementError
from enginegate.core.records import RaceEntry
from enginegate.core.specs import Workload
from enginegate.measure.ratios import timed_metrics
from enginegate.plan.gates import live_policy, speed_policy
from enginegate.plan.selection import Candidate
from enginegate.session.audit_race import measure_session
from enginegate.storage.audits import AnyAudit, AuditedGate, AuditedLaunches, LaunchSession, file_of, save_run_audit
from enginegate.verdicts.audit import continued, new_gate
from enginegate.verdicts.launch_audit import new_launches
from enginegate.verdicts.speed import launch_numbers, why_no_race

if TYPE_CHECKING:
    from enginegate.session.gate_session import GateSession


def measure_audit(session: GateSession, candidate: Candidate, batch_size: int) -> Sequence[AnyAudit]:
    """Measure one session of the speed gates' own error rates: against a live base by launches, else by blocks.

    It lies with the run until it is accepted. What is returned is audited over the accepted sessions and this one.
    """
    workload = candidate.config.workload(batch_size)
    accepted = session.plan.audits.get()  # a file that cannot be continued is refused before the race, not after
    live = session.plan.against is not None
    measured = (_audit_launches if live else _audit_blocks)(session, candidate, workload)
    folder = session.options.runs / session.record_id(candidate.config.name)
    save_run_audit(file_of(session.fingerprint.key, measured), folder)
    return [gate if accepted is None else continued(accepted, gate) for gate in measured]


def _audit_blocks(session: GateSession, candidate: Candidate, workload: Workload) -> Sequence[AuditedGate]:
    config = candidate.config
    policies = {metric: speed_policy(session.plan, candidate, metric) for metric in timed_metrics(workload.output_len)}
    bench = session.bench(config)
    engine, reference, prompts = bench.audit_contestants(candidate.spec, candidate.runtime, workload)
    reference_spec = bench.speed_reference.spec()
    monitor = bench.monitor([candidate.spec, reference_spec])
    found = measure_session(
        engine,
        reference,
        workload,
        prompts,
        policies,
        run=session.run,
        started=session.started,
        blocks=config.file.arena.audit_blocks,
        time_budget=session.options.time_budget or config.file.arena.audit_time_budget,
        progress=session.progress,
        monitor=monitor,
    )
    for line in monitor.warnings if monitor else ():
        session.warn(line)
    return [
        new_gate(candidate.id, reference_spec.id, workload.id, metric, policies[metric], measured)
        for metric, measured in found.items()
    ]


def _audit_launches(session: GateSession, candidate: Candidate, workload: Workload) -> Sequence[AuditedLaunches]:
    race = _race_copies(session, candidate)
    measured = []
    for metric in timed_metrics(workload.output_len):
        if (reason := why_no_race(race, workload.id, metric)) is not None:
            raise MeasurementError(
                f"no audit of {candidate.id} {workload.id} {metric}: {reason}",
                "audit on a quiet machine: what launches spread by there is believed from then on",
            )
        try:
            numbers = launch_numbers(race, workload.id, metric)
        except MeasurementError as error:
            session.progress(f"{workload.id}: no audit of {metric}: {error.problem}")
            continue
        launches = LaunchSession(run=session.run, started=session.started, against=race.against, numbers=numbers)
        policy = live_policy(session.plan, candidate, metric)
        measured.append(new_launches(race.head.engine, race.base.engine, workload.id, metric, policy, launches))
    return measured


def _race_copies(session: GateSession, candidate: Candidate) -> RaceEntry:
    """Race an engine against a copy of itself, once, at all workloads whose gates are audited.

    Raises EngineGateError where the base is no copy of it, or the race broke off.
    """
    duel, file = session.duel(candidate), candidate.config.file
    if duel is None:
        raise ConfigError(
            f"{session.options.against} has no engine {candidate.spec.label}: an audit races two copies of one engine",
            "name a copy of this environment, such as python:COPY",
        )
    if not duel.raced:
        read = [test.workload for test in session.plan.tests if test.candidate.id == candidate.id and test.workload]
        budget = session.options.time_budget or file.arena.audit_time_budget
        duel.audit(list(dict.fromkeys(read)), file.gates.live.audit_launches, budget)
        session.save_if_changed()
    if duel.failure is not None:
        raise duel.failure
    race, live = duel.entry(), file.gates.live
    count, least = len(race.launches), live.looks[0]
    if count < least:
        raise MeasurementError(
            f"{candidate.id}: an audit needs at least {least} launches, and there were {count}: {race.stopped}",
            "give it a larger --time-budget, or shorter launches (gates.live.pairs, gates.live.tokens)",
        )
    if count < live.audit_launches:
        session.warn(f"{candidate.id}: {count} of {live.audit_launches} launches were audited: {race.stopped}")
    for line in race.warnings:
        session.warn(line)
    if duel.one_installation:
        session.warn(
            f"{race.against} is the installation that this session runs in: identical files share their pages in"
            " memory, so that what a separate copy does to speed is hidden; install one, and name that"
        )
    return race
