"""Speed gates, from a record or a running arena."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from enginegate.core.errors import MeasurementError
from enginegate.core.records import ArenaEntry, Block, LaunchEntry, RaceEntry, RunRecord
from enginegate.gates.compare import compare_samples
from enginegate.gates.launches import Launch, judge_launches, replay_launches
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Baseline, Floor
from enginegate.gates.speed import Against, judge_speed, replay_speed
from enginegate.gates.verdict import Verdict
from enginegate.measure.launches import MAX_IDLE_SHARE
from enginegate.measure.ratios import disturbance, held_up, log_ratios, median_seconds, orders, whole_answers
from enginegate.measure.roofline import refuse_impossible
from enginegate.measure.rounds import launch_of
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import LiveBase, SpeedInputs, StoredSessions, UnpairedInputs

#: Beyond this share of blocks with a round that others disturbed, and repeating did not help, nothing is decided.
MAX_DISTURBED = 0.5


def speed_undecided(inputs: SpeedInputs, entry: ArenaEntry) -> bool:
    """Whether a speed gate still wants blocks from a running arena.

    It does until one of its looks decides, against stored sessions or a floor: what a floor decides early keeps a wide
    interval, which is shown. A speed-up with nothing to compare with may become a baseline: it is measured until its
    interval reaches no further than the margin.

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

    undecided = yardstick_moved(inputs, entry) is None and all(
        judged(look, against, final=False) is None for look in looks
    )
    if inputs.metric == "speedup" and inputs.against is None:
        undecided |= not _sharp(judged(looks[-1], None, final=True), policy)
    return undecided


def _sharp(verdict: Verdict | None, policy: SpeedPolicy) -> bool:
    low, high = (0.0, 0.0) if verdict is None else verdict.interval
    return low > 0 and high / low <= (1 + policy.margin) ** 2


def launches_of(race: RaceEntry, workload: str, metric: str) -> list[Launch]:
    """What each launch gave in one metric at one workload. Raises MeasurementError as ``log_ratios`` does."""
    base, head = race.base.engine, race.head.engine
    found = []
    for launch in race.launches:
        blocks = _rounds_of(launch, workload, metric)
        if metric == "speedup":
            blocks = whole_answers(blocks, race.tokens[workload], race.output_len[workload])
        found.append(launch_of(blocks, base, head, metric))
    return found


def _rounds_of(launch: LaunchEntry, workload: str, metric: str) -> Sequence[Block]:
    """The rounds that a metric is taken from: TTFT has its own where there are any."""
    own = launch.first_tokens.get(workload) if metric == "ttft" else None
    return own or launch.blocks.get(workload, [])


def launch_numbers(race: RaceEntry, workload: str, metric: str) -> list[float]:
    """The number of each launch. Raises MeasurementError where one has none: there are no pairs, or a time is none."""
    numbers = []
    for launch in launches_of(race, workload, metric):
        if not launch.usable:
            raise MeasurementError(f"a launch at {workload} has no {metric}, or one that is no positive finite number")
        numbers.append(launch.number)
    return numbers


def live_undecided(inputs: SpeedInputs, race: RaceEntry) -> bool:
    """Whether a gate against a live base still wants launches; not where the metric has no values, as its test says."""
    assert isinstance(inputs.against, LiveBase)
    try:
        launches = launches_of(race, inputs.workload, inputs.metric)
    except MeasurementError:
        return False
    looks = [look for look in inputs.policy.looks if look <= len(launches)]
    return all(
        judge_launches(launches[:look], inputs.policy, metric=inputs.metric, subject="", base="", final=False) is None
        for look in looks
    )


def judge_live_gate(inputs: SpeedInputs, against: LiveBase, record: RunRecord) -> Verdict:
    """A speed metric against the live base, over launches. Raises MeasurementError where the race broke off."""
    race = lookup.race(record, inputs.candidate)
    if race.failure:
        raise MeasurementError(race.failure)
    for entry in record.arenas:  # where the reference was timed, too, the roofline is known
        if inputs.metric == "speedup" and entry.workload == inputs.workload and inputs.candidate in entry.contestants:
            refuse_impossible(record, entry, inputs.candidate)
    warnings = [*inputs.notes, *race.warnings]
    disturbed, load = _disturbed(race, inputs.workload, inputs.metric)
    if disturbed:
        warnings.append(f"{disturbed:.0%} of pairs ran beside other work (median load {load:.0%} of the machine)")
    tokens, whole = race.tokens.get(inputs.workload, 0), race.output_len.get(inputs.workload, 0)
    if inputs.metric == "speedup" and tokens < whole:
        warnings.append(f"rounds of {tokens} tokens, reckoned to answers of {whole}")
    return replay_launches(
        launches_of(race, inputs.workload, inputs.metric),
        inputs.policy,
        metric=inputs.metric,
        subject=inputs.subject,
        base=against.label,
        warnings=warnings,
        invalid=why_no_race(race, inputs.workload, inputs.metric),
    )


def why_no_race(race: RaceEntry, workload: str, metric: str) -> str | None:
    """Why nothing is concluded from a race's launches, whatever they show; None where they may be judged."""
    busy = [name for name, share in race.idle().items() if share > MAX_IDLE_SHARE]
    if busy:
        return f"{', '.join(busy)} was busy while it was not its turn: the two are not on equal terms"
    disturbed, _ = _disturbed(race, workload, metric)
    if disturbed > MAX_DISTURBED:
        return f"other work disturbed {disturbed:.0%} of the pairs, also when repeated"
    return None


def _disturbed(race: RaceEntry, workload: str, metric: str) -> tuple[float, float]:
    return disturbance([block for launch in race.launches for block in _rounds_of(launch, workload, metric)])


def judge_speed_gate(inputs: SpeedInputs, record: RunRecord) -> Verdict:
    """Speed-up, TTFT or ITL of one engine over the reference, or its live base, as its session decided at its own look.

    Raises MeasurementError where the engine left the race, where there are no blocks or no values, or the engine would
    be faster than its memory can be read.
    """
    if isinstance(inputs.against, LiveBase):
        return judge_live_gate(inputs, inputs.against, record)
    return judge_arena(inputs, lookup.arena(record, inputs.workload), record)


def judge_arena(inputs: SpeedInputs, entry: ArenaEntry, record: RunRecord, metric: str = "") -> Verdict:
    """The same from one arena of the record. ``metric``: the verdict's own, where it is not that of the ratio."""
    if inputs.candidate in entry.failures:
        raise MeasurementError(entry.failures[inputs.candidate])
    ratios = log_ratios(entry.blocks, inputs.reference, inputs.candidate, inputs.metric)
    if not ratios:
        raise MeasurementError(f"arena {entry.workload} collected no blocks", "give it a larger --time-budget")
    if inputs.metric == "speedup":
        refuse_impossible(record, entry, inputs.candidate)
    warnings, invalid = conditions(entry.blocks)
    return replay_speed(
        ratios,
        _anchor(inputs),
        inputs.policy,
        metric=metric or inputs.metric,
        subject=inputs.subject,
        reference=inputs.reference_label,
        warnings=[*inputs.notes, *warnings],
        invalid=invalid or yardstick_moved(inputs, entry),
        order=orders(entry.blocks, inputs.reference, inputs.candidate),
    )


def conditions(blocks: Sequence[Block]) -> tuple[list[str], str | None]:
    """What disturbed blocks, as warnings, and why nothing is concluded from them; None where it may be."""
    disturbed, load = disturbance(blocks)
    held = held_up(blocks)
    warnings = []
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
    return warnings, invalid


def yardstick_moved(inputs: SpeedInputs, entry: ArenaEntry) -> str | None:
    """Why a ratio to stored sessions says nothing of the engine; None where it does, or nothing is stored.

    A ratio moves when the reference does. Hosts were seen to slow eager Transformers by 31 % between two sessions of an
    unchanged engine, which then was "faster by 25 %". So the reference's own time must lie within those of the stored
    sessions, the gate's margin allowed on either side. Where it does not, nothing is claimed in either direction.
    """
    against = inputs.against
    if not isinstance(against, StoredSessions):
        return None
    if not against.times:
        return "the stored sessions keep no times of the reference, so nobody can tell whether it has moved since"
    stored = [math.log(reference) for reference, _ in against.times]
    now = math.log(median_seconds(entry.blocks, inputs.reference, inputs.metric))
    slack = math.log1p(inputs.policy.margin)
    if min(stored) - slack <= now <= max(stored) + slack:
        return None
    before = statistics.fmean(math.log(engine) for _, engine in against.times)
    engine = math.log(median_seconds(entry.blocks, inputs.candidate, inputs.metric)) - before
    reference = now - statistics.fmean(stored)
    return (
        f"since the stored sessions the reference's time moved by {100 * math.expm1(reference):+.0f} %, the engine's"
        f" by {100 * math.expm1(engine):+.0f} %: their ratio says nothing of the engine alone (--against does)"
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
    return None if inputs.against is None or isinstance(inputs.against, LiveBase) else inputs.against.anchor()
