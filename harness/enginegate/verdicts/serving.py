"""Gates of serving, from a record: a service level, and latencies and that level beside a live base."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from enginegate.core.errors import MeasurementError
from enginegate.core.records import RunRecord
from enginegate.core.serving_records import ServingEntry, ServingRun
from enginegate.gates.accuracy import judge_accuracy
from enginegate.gates.serving import Saturation, block_length, credits_of, judge_pairs, judge_slo, saturation
from enginegate.gates.verdict import Status, Verdict
from enginegate.measure.serving.figures import latencies, lateness
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import LevelInputs, ServedInputs, SloInputs
from enginegate.verdicts.speed import MAX_DISTURBED


def judge_slo_gate(inputs: SloInputs, record: RunRecord) -> Verdict:
    """The service level, over the measured requests of all of the engine's runs."""
    entry = _entry(record, inputs.candidate)
    scores = [score for run in entry.runs for score in lateness(run, entry.slo)]
    loads = [run.foreign_load for run in entry.runs if math.isfinite(run.foreign_load)]
    busy = max(loads, default=0.0)
    warnings = list(_failures(entry.runs))
    over = busy > inputs.foreign_load_limit
    if over:
        warnings.append(f"other work took {busy:.0%} of the machine")
    unchecked = [check.name for run in entry.runs for check in run.checks if math.isnan(check.value)]
    if "little" in unchecked:
        warnings.append("Little's law could not be checked: the engine does not say how many requests are in flight")

    pile = piling_up(entry.runs, inputs.policy.alpha / 2)

    def judged(invalid: str | None) -> Verdict:
        return judge_slo(
            scores,
            inputs.policy,
            metric=inputs.metric,
            subject=inputs.subject,
            level=str(entry.slo),
            backlog=pile,
            warnings=warnings,
            invalid=invalid,
        )

    verdict = judged(why_not(entry.runs))
    if verdict.status is Status.FAIL and over:  # what others take makes requests late, and never in time
        return judged(f"other work took {busy:.0%} of the machine, so that it is not known what made requests late")
    return verdict


def judge_served_gate(inputs: ServedInputs, record: RunRecord) -> Verdict:
    """A latency beside the live base. Raises MeasurementError where the pairs broke off."""
    entry = _entry(record, inputs.candidate)
    _refuse_broken(entry)
    numbers, slower, count = [], 0, 0
    for head, base in zip(entry.runs, entry.base_runs, strict=False):
        ours, theirs = latencies(head, inputs.latency), latencies(base, inputs.latency)
        both = np.isfinite(ours) & np.isfinite(theirs) & (ours > 0) & (theirs > 0)
        ratios = np.log(theirs[both] / ours[both])
        numbers.append(float(np.median(ratios)) if len(ratios) else math.nan)
        slower, count = slower + int(np.sum(ratios < 0)), count + len(ratios)
    return judge_pairs(
        numbers,
        inputs.policy,
        metric=inputs.metric,
        subject=inputs.subject,
        base=inputs.label,
        slower=slower / count if count else None,
        warnings=[*inputs.notes, *_failures(entry.runs), *_failures(entry.base_runs, "the base: ")],
        invalid=_why_no_pairs(entry, inputs.foreign_load_limit),
    )


def judge_level_gate(inputs: LevelInputs, record: RunRecord) -> Verdict:
    """The share of requests within the service level, beside the live base's on the same requests.

    It is the paired test of accuracy: only requests that one side kept in time and the other did not carry evidence.
    Neighbours in a queue are alike, so blocks of them are the items.
    """
    entry = _entry(record, inputs.candidate)
    _refuse_broken(entry)
    kept = {
        name: [score <= 1 for run in runs for score in lateness(run, entry.slo)]
        for name, runs in (("head", entry.runs), ("base", entry.base_runs))
    }
    block = block_length(kept)
    verdict = judge_accuracy(
        credits_of(kept["head"], block),
        credits_of(kept["base"], block) if entry.base_runs else None,
        inputs.policy,
        metric=inputs.metric,
        subject=inputs.subject,
    )
    warnings = [*inputs.notes, *verdict.warnings]
    if block > 1:
        warnings.append(f"requests that wait in one queue are alike: {block} neighbours count as one item")
    why = _why_no_pairs(entry, inputs.foreign_load_limit)
    status, text = verdict.status, verdict.explanation
    if why is not None:
        status, text = Status.INCONCLUSIVE, f"{text.partition('; undecided: ')[0]}; undecided: {why}"
    fields = {**verdict.__dict__, "unit": "share", "status": status, "explanation": text, "warnings": tuple(warnings)}
    return Verdict(**fields)


def piling_up(runs: Sequence[ServingRun], alpha: float) -> Saturation | None:
    """Whether requests piled up in any of some runs, which share the chance of a false alarm; the worst of them."""
    found = [
        saturation(
            run.due,
            np.nan_to_num(np.asarray(run.finished, np.float64), nan=math.inf).tolist(),
            alpha=alpha / len(runs),
            start=run.due[run.begin],
            service_dispersion=dispersion(run.tokens),
        )
        for run in runs
    ]
    return max(found, key=lambda each: (each.saturated, each.growth / each.limit), default=None)


def dispersion(tokens: Sequence[int]) -> float:
    """Squared coefficient of variation of the work in a request, by its tokens; of those that had any."""
    values = np.asarray([count for count in tokens if count], np.float64)
    return float(np.var(values) / np.mean(values) ** 2) if len(values) else 1.0


def _entry(record: RunRecord, engine: str) -> ServingEntry:
    entry = lookup.serving(record, engine)
    if not entry.runs:
        raise MeasurementError(entry.failure or f"{engine} served no run")
    return entry


def _refuse_broken(entry: ServingEntry) -> None:
    if entry.failure:
        raise MeasurementError(entry.failure)


def why_not(runs: Sequence[ServingRun]) -> str | None:
    """Why nothing is concluded from some runs: the first invariant that is broken, and how many others are."""
    found = list(dict.fromkeys(reason for run in runs for reason in run.why_not))
    if not found:
        return None
    return found[0] if len(found) == 1 else f"{found[0]} (and {len(found) - 1} more that must not be)"


def _why_no_pairs(entry: ServingEntry, limit: float) -> str | None:
    """Why nothing is concluded from pairs: an invariant is broken, or half of the runs had to share the machine."""
    runs = [*entry.runs, *entry.base_runs]
    busy = [run.foreign_load for run in runs if run.foreign_load > limit]
    broken = why_not(runs)
    if broken is None and len(busy) > len(runs) * MAX_DISTURBED:
        return f"other work took {np.median(busy):.0%} of the machine in {len(busy)} of {len(runs)} runs"
    return broken


def _failures(runs: Sequence[ServingRun], who: str = "") -> Iterator[str]:
    """How many requests failed, and of what."""
    reasons: dict[str, int] = {}
    for run in runs:
        for reason in run.failed.values():
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in reasons.items():
        yield f"{who}{count} of {sum(len(run.due) for run in runs)} requests failed: {reason}"
