"""From a record to a verdict: what a session concluded can be recomputed from its run record alone.

A gate is a dictionary of inputs (what is compared, with what, at which margins) that is stored with its verdict; the
samples lie in the record. ``judge`` is the only way from the two to a verdict, in the session and afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import MeasurementError, RecordError
from harness.gates.resources import judge_build_time, judge_memory, judge_size
from harness.gates.sequential import SpeedPolicy
from harness.gates.sessions import Baseline, Floor
from harness.gates.speed import replay_speed
from harness.gates.verdict import Verdict
from harness.measure.arena import disturbance, log_ratios
from harness.records import ArenaEntry, MemoryEntry, RunRecord

#: Beyond this share of blocks with a round that others disturbed, and repeating did not help, nothing is decided.
MAX_DISTURBED = 0.5

Inputs = Mapping[str, Any]


def judge(inputs: Inputs, record: RunRecord) -> Verdict:
    """The verdict that ``inputs`` give on the samples of ``record``.

    Raises:
        RecordError: the inputs name a gate or samples that are not there.
    """
    try:
        gate = GATES[inputs["gate"]]
    except KeyError as missing:
        raise RecordError(f"verdict inputs name no known gate: {missing}", "the record is of another version") from None
    return gate(inputs, record)


def speed_undecided(inputs: Inputs, entry: ArenaEntry, final: bool = False) -> bool:
    """Whether a speed gate still wants blocks from a running arena."""
    from harness.gates.speed import judge_speed

    policy = _speed_policy(inputs)
    count = len(entry.blocks)
    ratios = log_ratios(entry.blocks, inputs["reference"], inputs["candidate"], inputs["metric"])
    for look in (look for look in policy.looks if look <= count):
        if judge_speed(ratios[:look], _against(inputs), policy, final=final) is not None:
            return False
    return True


def _judge_speed(inputs: Inputs, record: RunRecord) -> Verdict:
    entry = _one(record.arenas, lambda arena: arena.workload == inputs["workload"], f"arena {inputs['workload']}")
    ratios = log_ratios(entry.blocks, inputs["reference"], inputs["candidate"], inputs["metric"])
    if not ratios:
        raise MeasurementError(f"arena {entry.workload} collected no blocks", "give it a larger --time-budget")
    disturbed, load = disturbance(entry.blocks)
    warnings = []
    if disturbed:
        warnings.append(f"{disturbed:.0%} of blocks ran beside other work (median load {load:.0%} of the machine)")
    spoiled = None
    if disturbed > MAX_DISTURBED:
        spoiled = f"other work disturbed {disturbed:.0%} of the blocks, also when repeated"
    return replay_speed(
        ratios,
        _against(inputs),
        _speed_policy(inputs),
        metric=inputs["metric"],
        subject=inputs["subject"],
        reference=inputs["reference_label"],
        warnings=warnings,
        spoiled=spoiled,
    )


def _judge_memory(inputs: Inputs, record: RunRecord) -> Verdict:
    entry = memory_entry(record.memory, inputs["candidate"], inputs["workload"])
    value = getattr(entry, inputs["field"])
    if value is None:
        raise MeasurementError(f"{inputs['subject']}: the engine does not tell its {inputs['field']}")
    return judge_memory(
        value,
        inputs["baseline"],
        quantum=inputs["quantum"],
        relative=inputs["relative"],
        limit=inputs["limit"],
        metric=inputs["metric"],
        subject=inputs["subject"],
    )


def _judge_size(inputs: Inputs, record: RunRecord) -> Verdict:
    engine = _one(record.engines, lambda entry: entry.id == inputs["candidate"], f"engine {inputs['candidate']}")
    return judge_size(
        engine.size_bytes,
        inputs["baseline"],
        relative=inputs["relative"],
        limit=inputs["limit"],
        subject=inputs["subject"],
    )


def _judge_build_time(inputs: Inputs, record: RunRecord) -> Verdict:
    engine = _one(record.engines, lambda entry: entry.id == inputs["candidate"], f"engine {inputs['candidate']}")
    return judge_build_time(engine.build_seconds, inputs["baseline"], subject=inputs["subject"])


GATES: dict[str, Callable[[Inputs, RunRecord], Verdict]] = {
    "speed": _judge_speed,
    "memory": _judge_memory,
    "size": _judge_size,
    "build_time": _judge_build_time,
}


def memory_entry(entries: Sequence[MemoryEntry], engine: str, workload: str) -> MemoryEntry:
    """The memory figures of one engine under one workload."""
    return _one(
        entries, lambda entry: entry.engine == engine and entry.workload == workload, f"memory of {engine}, {workload}"
    )


def _one(entries: Sequence[Any], wanted: Callable[[Any], bool], name: str) -> Any:
    found = [entry for entry in entries if wanted(entry)]
    if len(found) != 1:
        raise RecordError(f"the record holds {len(found)} entries for {name}, not one", "take the run again")
    return found[0]


def _speed_policy(inputs: Inputs) -> SpeedPolicy:
    policy = dict(inputs["policy"])
    return SpeedPolicy(**{**policy, "looks": tuple(policy["looks"])})


def _against(inputs: Inputs) -> Baseline | Floor | None:
    against = inputs["against"]
    if against is None:
        return None
    if against["kind"] == "floor":
        return Floor(against["ratio"])
    return Baseline(tuple(tuple(session) for session in against["sessions"]))
