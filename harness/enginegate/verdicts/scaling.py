"""Gates on scaling, from a record or a running sweep."""

from __future__ import annotations

import math

from enginegate.core.errors import MeasurementError
from enginegate.core.records import RunRecord, SweepEntry
from enginegate.gates.scaling import Step, judge_scaling, scaling_undecided
from enginegate.gates.verdict import Verdict
from enginegate.measure.ratios import log_ratios, orders
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import ScalingInputs
from enginegate.verdicts.speed import conditions


def judge_scaling_gate(inputs: ScalingInputs, record: RunRecord) -> Verdict:
    """All doublings of one engine. Raises MeasurementError where a size failed, or a round has no value."""
    return judge_sweep(inputs, lookup.sweep(record, inputs.candidate))


def judge_sweep(inputs: ScalingInputs, entry: SweepEntry) -> Verdict:
    """The same from the sweep itself."""
    if not entry.blocks:
        raise MeasurementError(
            f"the sweep of {entry.engine} collected no blocks", "give scaling.time_budget more seconds, or fewer sizes"
        )
    read = {point for step in inputs.steps for point in (step.small, step.large)}
    ours = [
        block.model_copy(update={"rounds": [each for each in block.rounds if each.engine in read]})
        for block in entry.blocks
    ]
    warnings, invalid = conditions(ours)
    return judge_scaling(
        _steps(inputs, entry),
        inputs.limit,
        inputs.policy,
        metric=inputs.metric,
        subject=inputs.subject,
        inverse=inputs.kind == "itl",
        warnings=[*entry.warnings, *warnings],
        invalid=invalid,
    )


def sweep_undecided(inputs: ScalingInputs, entry: SweepEntry) -> bool:
    """Whether a gate still wants blocks from a running sweep; not where it cannot judge, as its test says."""
    try:
        steps = _steps(inputs, entry)
    except MeasurementError:
        return False
    return scaling_undecided(steps, inputs.limit, inputs.policy, inverse=inputs.kind == "itl")


def _steps(inputs: ScalingInputs, entry: SweepEntry) -> list[Step]:
    tokens = {point.id: point.batch_size * point.output_len for point in entry.points}
    found = []
    for step in inputs.steps:
        failed = [point for point in (step.small, step.large) if point in entry.failures]
        if failed:
            raise MeasurementError(f"{entry.engine} failed at {failed[0]}: {entry.failures[failed[0]]}")
        metric = "itl" if inputs.kind == "itl" else "speedup"
        more = 0.0 if inputs.kind == "itl" else math.log(tokens[step.large] / tokens[step.small])
        ratios = [ratio + more for ratio in log_ratios(entry.blocks, step.small, step.large, metric)]
        found.append(Step(step.name, ratios, orders(entry.blocks, step.small, step.large)))
    return found
