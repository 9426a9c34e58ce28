"""Speed gates, from a record or a running arena."""

from __future__ import annotations

from enginegate.core.errors import MeasurementError
from enginegate.core.records import ArenaEntry, RunRecord
from enginegate.gates.compare import compare_samples
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Baseline, Floor
from enginegate.gates.speed import Against, judge_speed, replay_speed
from enginegate.gates.verdict import Verdict
from enginegate.measure.ratios import disturbance, held_up, log_ratios, orders
from enginegate.measure.roofline import refuse_impossible
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import SpeedInputs, UnpairedInputs

#: Beyond this share of blocks with a round that others disturbed, and repeating did not help, nothing is decided.
MAX_DISTURBED = 0.5


def speed_undecided(inputs: SpeedInputs, entry: ArenaEntry) -> bool:
    """Whether a speed gate still wants blocks from a running arena.

    A speed-up that no stored session vouches for is the one that a baseline will be made of: it is measured until its
    interval reaches no further than the margin, also where a floor is passed long before.

    It does not where the candidate left the race, or the metric has no values: its own test says so.
    """
    policy, against = inputs.policy, _anchor(inputs)
    if inputs.candidate in entry.failures:
        return False
    try:
        ratios = log_ratios(entry.blocks, inputs.reference, inputs.candidate, inputs.metric)
    except MeasurementError:
        return False
    order = orders(entry.blocks, inputs.reference, inputs.candidate)
    looks = [look for look in policy.looks if look <= len(ratios)]
    if not looks:
        return True

    def judged(look: int, against: Against | None, *, final: bool) -> Verdict | None:
        return judge_speed(ratios[:look], against, policy, final=final, order=order[:look])

    undecided = all(judged(look, against, final=False) is None for look in looks)
    if inputs.metric == "speedup" and not isinstance(against, Baseline):
        undecided |= not _sharp(judged(looks[-1], None, final=True), policy)
    return undecided


def _sharp(verdict: Verdict | None, policy: SpeedPolicy) -> bool:
    low, high = (0.0, 0.0) if verdict is None else verdict.interval
    return low > 0 and high / low <= (1 + policy.margin) ** 2


def judge_speed_gate(inputs: SpeedInputs, record: RunRecord) -> Verdict:
    """Speed-up, TTFT or ITL of one engine over the reference, as its session decided at its own look.

    Raises MeasurementError where the engine left the race, where there are no blocks or no values, or the engine would
    be faster than its memory can be read.
    """
    entry = lookup.arena(record, inputs.workload)
    if inputs.candidate in entry.failures:
        raise MeasurementError(entry.failures[inputs.candidate])
    ratios = log_ratios(entry.blocks, inputs.reference, inputs.candidate, inputs.metric)
    if not ratios:
        raise MeasurementError(f"arena {entry.workload} collected no blocks", "give it a larger --time-budget")
    if inputs.metric == "speedup":
        refuse_impossible(record, entry, inputs.candidate)
    disturbed, load = disturbance(entry.blocks)
    held = held_up(entry.blocks)
    warnings = list(inputs.notes)
    if held:
        warnings.append(f"a CPU quota held up {held:.0%} of blocks")
    if disturbed > held:
        warnings.append(f"{disturbed:.0%} of blocks ran beside other work (median load {load:.0%} of the machine)")
    invalid = None
    if held > MAX_DISTURBED:
        invalid = (
            f"a CPU quota held up {held:.0%} of the blocks, also when repeated: give the container whole cores (a CPU"
            " set), or fewer threads than the quota pays for"
        )
    elif disturbed > MAX_DISTURBED:
        invalid = f"other work disturbed {disturbed:.0%} of the blocks, also when repeated"
    return replay_speed(
        ratios,
        _anchor(inputs),
        inputs.policy,
        metric=inputs.metric,
        subject=inputs.subject,
        reference=inputs.reference_label,
        warnings=warnings,
        invalid=invalid,
        order=orders(entry.blocks, inputs.reference, inputs.candidate),
    )


def judge_unpaired_gate(inputs: UnpairedInputs, record: RunRecord | None) -> Verdict:
    """A new session's samples against those of sessions that never ran beside it."""
    del record
    return compare_samples(
        inputs.sessions,
        inputs.samples,
        margin=inputs.margin,
        tolerated=inputs.tolerated,
        alpha=inputs.alpha,
        beta=inputs.beta,
        higher_is_better=inputs.higher_is_better,
        shift=inputs.shift,
        metric=inputs.metric,
        subject=inputs.subject,
    )


def _anchor(inputs: SpeedInputs) -> Baseline | Floor | None:
    return None if inputs.against is None else inputs.against.anchor()
