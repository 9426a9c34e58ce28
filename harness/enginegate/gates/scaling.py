"""The gate on the shape of scaling: what each doubling gains or costs, all doublings together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Floor
from enginegate.gates.speed import judge_speed, replay_speed
from enginegate.gates.verdict import Status, Verdict


@dataclass(frozen=True)
class Step:
    """One doubling.

    Attributes:
        name: for people, ``b4 to b8``.
        log_ratios: per block, log of what the larger size reaches over the smaller; of the figure, more is better.
        order: of each block, +1 where the smaller size ran first, else -1.
    """

    name: str
    log_ratios: Sequence[float]
    order: Sequence[int]


def judge_scaling(
    steps: Sequence[Step],
    limit: float,
    policy: SpeedPolicy,
    *,
    metric: str,
    subject: str,
    inverse: bool = False,
    warnings: Sequence[str] = (),
    invalid: str | None = None,
) -> Verdict:
    """Judge all doublings of one engine.

    FAIL where one is shown to miss the limit, PASS where all are shown to keep it.

    Args:
        steps: the doublings, at least one.
        limit: what each must reach at least; with ``inverse`` what its inverse may be at most.
        policy: ``alpha`` is the chance of a false FAIL of all steps together, which share it equally (Bonferroni);
            ``beta`` that of a false PASS: a PASS rejects every step's "misses the limit" at beta, so that whichever of
            them is true is missed with at most that chance (intersection-union test, Berger 1982). Looks as of any
            speed gate.
        metric, subject: names for the verdict.
        inverse: the figure is shown as its inverse, of which less is better: inter-token latency.
        warnings: what the measurement itself has to say.
        invalid: why these samples can decide nothing.
    """
    if not steps:
        raise ValueError("a gate of scaling needs at least one doubling")
    share, floor = _of_each(steps, limit, policy, inverse)
    found = [replay_speed(step.log_ratios, floor, share, invalid=invalid, order=step.order) for step in steps]
    status = next(
        (status for status in (Status.FAIL, Status.INCONCLUSIVE) if any(each.status is status for each in found)),
        Status.PASS,
    )
    deciding = [number for number, each in enumerate(found) if each.status is status]
    worst = min(deciding, key=lambda number: _or_least(found[number].estimate))
    verdict = found[worst]
    estimate, interval = _shown(verdict, inverse)
    rule = f"{'at most' if inverse else 'at least'} {limit:g}x for each"
    ratios = ", ".join(f"{_shown(each, inverse)[0]:.2f}x {step.name}" for step, each in zip(steps, found, strict=True))
    text = f"{subject}: {ratios}; {rule}"
    if status is not Status.PASS:
        named = [(steps[number].name, found[number]) for number in deciding]
        text += f"; {_why(status, named, inverse, limit, invalid)}"
    notes = dict.fromkeys(note for each in found for note in each.warnings)
    return Verdict(
        status=status,
        metric=metric,
        estimate=estimate,
        interval=interval,
        unit="x",
        baseline=limit,
        change=verdict.change,
        margin=0.0,
        alpha=policy.alpha,
        smallest_visible=verdict.smallest_visible,
        samples=min(each.samples for each in found),
        explanation=text,
        warnings=(*warnings, *notes),
    )


def scaling_undecided(steps: Sequence[Step], limit: float, policy: SpeedPolicy, *, inverse: bool = False) -> bool:
    """Whether the gate still wants blocks: until one doubling has failed, or each has decided at one of its looks."""
    share, floor = _of_each(steps, limit, policy, inverse)
    decided = []
    for step in steps:
        looks = [look for look in policy.looks if look <= len(step.log_ratios)]
        verdicts = (
            judge_speed(step.log_ratios[:look], floor, share, final=False, order=step.order[:look]) for look in looks
        )
        decided.append(next((each.status for each in verdicts if each is not None), None))
    return Status.FAIL not in decided and None in decided


def _of_each(steps: Sequence[Step], limit: float, policy: SpeedPolicy, inverse: bool) -> tuple[SpeedPolicy, Floor]:
    """What each doubling is judged by: its share of alpha, and the floor of its ratio."""
    return replace(policy, alpha=policy.alpha / len(steps)), Floor(1.0 / limit if inverse else limit)


def _why(status: Status, found: Sequence[tuple[str, Verdict]], inverse: bool, limit: float, invalid: str | None) -> str:
    """Which doublings miss the limit, or are not told from it."""
    if status is Status.INCONCLUSIVE and invalid is not None:
        return f"undecided: {invalid}"
    place = ("above" if inverse else "below") if status is Status.FAIL else "not told from"
    named = []
    for name, verdict in found:
        _, (low, high) = _shown(verdict, inverse)
        named.append(name if math.isnan(low) else f"{name} [{low:.2f}, {high:.2f}]")
    unusable = [verdict.explanation for _, verdict in found if math.isnan(verdict.estimate)]
    return unusable[0] if unusable else f"{', '.join(named)} {place} {limit:g}x"


def _shown(verdict: Verdict, inverse: bool) -> tuple[float, tuple[float, float]]:
    low, high = verdict.interval
    return (1.0 / verdict.estimate, (1.0 / high, 1.0 / low)) if inverse else (verdict.estimate, (low, high))


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value
