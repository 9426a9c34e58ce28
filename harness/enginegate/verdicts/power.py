"""What the speed gate could see on a run's machine, with each engine of the run as the reference."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from enginegate.core.errors import ConfigError, MeasurementError, RecordError
from enginegate.core.files import first_problem
from enginegate.core.records import ArenaEntry, RunRecord
from enginegate.gates.audit import FEWEST_BLOCKS, AuditResult, audit, smallest_seen
from enginegate.gates.launches import LAUNCH_SPREAD, LaunchPower, resample_launches
from enginegate.gates.sequential import SpeedPolicy
from enginegate.measure.ratios import has_value, log_ratios, orders
from enginegate.storage.summary import session_shift
from enginegate.verdicts import lookup
from enginegate.verdicts.audit import centred
from enginegate.verdicts.inputs import SpeedInputs, restore_inputs
from enginegate.verdicts.lookup import gates
from enginegate.verdicts.speed import launch_numbers

#: Slowdowns that are tried.
SLOWDOWNS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15)
_POLICY = TypeAdapter(SpeedPolicy)


@dataclass(frozen=True)
class PairPower:
    """The speed gate with one engine over another as its reference, by the blocks of one session.

    The session's own drift counts as noise. A shift between sessions is not in it, as one session says nothing of that;
    what the gate believes of it costs power where stored sessions judge.
    """

    engine: str
    reference: str
    result: AuditResult

    @property
    def smallest_seen(self) -> float | None:
        """The smallest of SLOWDOWNS that the gate sees, or None."""
        seen = smallest_seen(self.result)
        return seen.slowdown if seen else None


def run_policy(record: RunRecord, metric: str, **others: float | None) -> SpeedPolicy:
    """The policy of the run's own gates of a metric, its share of the error budget included, with ``others`` given.

    Raises:
        RecordError: what the record keeps of its gates cannot be used.
        ConfigError: a margin beyond what is tolerated, or an alpha that is none.
    """
    stored = next((each.inputs.get("policy") for each in record.verdicts if each.inputs.get("gate") == "speed"), None)
    kept = lookup.gates(record).speed.model_dump(mode="json") if stored is None else stored
    names = ("margin", "tolerated", "alpha", "beta", "looks")
    known = {name: kept[name] for name in names if name in kept} if isinstance(kept, dict) else kept
    try:
        policy = _POLICY.validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        raise RecordError(
            f"the policy that run {record.id} keeps of its speed gate is not usable: {first_problem(error)}",
            "restore the record, or record a new run",
        ) from error
    chosen: dict[str, Any] = {name: value for name, value in others.items() if value is not None}
    try:
        return replace(policy, shift=session_shift(record, metric), **chosen)
    except ValueError as error:
        raise ConfigError(str(error), "give --margin, --tolerated or --alpha another value") from error


@dataclass(frozen=True)
class RacePower:
    """The gate against a live base, by the launches of one race.

    Attributes:
        engine, base: the two.
        launches: how many there were.
        spread: standard deviation of a launch's log ratio.
        powers: one for each of SLOWDOWNS, and for 0.
    """

    engine: str
    base: str
    launches: int
    spread: float
    powers: tuple[LaunchPower, ...]


def race_powers(
    record: RunRecord, workload: str, metric: str, *, margin: float | None, tolerated: float | None, alpha: float | None
) -> list[RacePower]:
    """The live gate's power for every race of a run that has enough launches at a workload.

    Args:
        record: the run.
        workload, metric: whose launches.
        margin, tolerated, alpha: as the run's own gate had them, where None; so is what it believed of the spread of
            launches. A run without that gate, such as an audit: as it was configured.
    """
    live = gates(record).live
    configured = SpeedPolicy(
        margin=live.margin,
        tolerated=live.tolerated,
        looks=tuple(live.looks),
        shift=replace(LAUNCH_SPREAD, scale=getattr(live.spread, metric)),
    )
    judged = [entry for entry in record.verdicts if entry.is_raced]
    if judged:
        configured = replace(configured, alpha=judged[0].alpha)
    own = {
        entry.engine: inputs.policy
        for entry in judged
        if (entry.workload, entry.metric) == (workload, metric)
        and isinstance(inputs := restore_inputs(entry.inputs), SpeedInputs)
    }
    given = {"margin": margin, "tolerated": tolerated, "alpha": alpha}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    found = []
    for race in record.races:
        try:
            policy = replace(own.get(race.head.engine, configured), **chosen)
        except ValueError as error:
            raise ConfigError(str(error), "give --margin, --tolerated or --alpha another value") from error
        if len(race.launches) < policy.looks[0] or workload not in race.launches[0].blocks:
            continue
        try:
            numbers = launch_numbers(race, workload, metric)
        except MeasurementError:  # it has no values of the metric
            continue
        powers = resample_launches(numbers, policy, (0.0, *SLOWDOWNS))
        found.append(
            RacePower(race.head.engine, race.base.engine, len(numbers), float(np.std(numbers, ddof=1)), tuple(powers))
        )
    return found


def pair_powers(
    arena: ArenaEntry, metric: str, policy: SpeedPolicy, *, sessions: int = 0, resamples: int = 1000
) -> list[PairPower]:
    """The gate's power for every ordered pair of an arena's engines that have values of the metric.

    The list is empty where there are too few blocks.

    Args:
        arena: the blocks.
        metric: whose times.
        policy: of the gate.
        sessions: how many stored sessions of the same noise judge it; 0: a ratio that is known exactly.
        resamples: resampled sessions behind every rate.
    """
    if len(arena.blocks) < FEWEST_BLOCKS:
        return []
    return [
        PairPower(
            engine,
            reference,
            audit(
                centred(log_ratios(arena.blocks, reference, engine, metric)),
                policy,
                orders=[orders(arena.blocks, reference, engine)],
                slowdowns=SLOWDOWNS,
                resamples=resamples,
                baseline_sessions=sessions,
            ),
        )
        for reference, engine in permutations(arena.contestants, 2)
        if has_value(arena.blocks, (reference, engine), metric)
    ]
