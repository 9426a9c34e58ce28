"""The race of an audit: one engine against itself, against the live reference, and against slowed copies of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enginegate.core.records import Block
from enginegate.core.specs import Workload
from enginegate.engines.base import Progress
from enginegate.engines.timing import Contestant
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Known
from enginegate.gates.speed import replay_speed
from enginegate.machine.gpu import DeviceMonitor
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import has_value, log_ratios, orders
from enginegate.measure.slowed import SlowedContestant
from enginegate.storage.audits import AuditSession, Confirmation

#: Slowdowns that are confirmed with a really slowed engine.
CONFIRMED = (0.05, 0.10)


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
