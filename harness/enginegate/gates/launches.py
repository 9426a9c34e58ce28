"""The gate of a live base: base and head are launched in pairs, again and again, and the launch is what is counted.

Two launches of one engine differ: by where its memory lies, by what the system did while it loaded. On one quiet CPU
they spread by 0.7 to 1.8 %, and rounds of one launch do not average that away. So a *launch* here is one start of the
base beside one start of the head, which then answer the same prompts in turn. It gives one number, the location of its
rounds' log ratios, and the numbers of launches are independent: their own spread holds whatever a launch and its rounds
add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from enginegate.gates.robust import Array, Location
from enginegate.gates.sequential import (
    FAILED,
    PASSED,
    UNDECIDED,
    Outcome,
    SpeedPolicy,
    half_width,
    next_look,
    sequential_test,
)
from enginegate.gates.sessions import Anchor, Known, ShiftPrior
from enginegate.gates.speed import SpeedGate, first_decision
from enginegate.gates.verdict import Status, Verdict

#: Belief about the spread (standard deviation) of a launch's number before launches show it: launches of either side
#: spread by 0.7 to 1.8 % on a quiet 2-core CPU, so the difference of two by 1.0 to 2.5 %, and by 0.2 to 1.3 % on an
#: H200 (docs/gates.md).
LAUNCH_SPREAD = ShiftPrior(scale=0.015, df=4.0)
#: Error probability with which an engine is called slower by all of its rounds.
_SURE = 0.01
#: Launches at which it looks. Unchanged engines are mostly decided at the first; the last ones are for small changes.
LAUNCH_LOOKS = (4, 6, 8, 10, 12, 16)


@dataclass(frozen=True)
class Half:
    """Where the faster half of an engine's rounds lies.

    Attributes:
        estimate: mean of their log times.
        error: its standard error.
    """

    estimate: float
    error: float


def faster_half(log_times: Sequence[float]) -> Half:
    """The mean of the faster half of some rounds: a mean trimmed from one end, with its error (Tukey, McLaughlin 1963).

    Whatever else goes on in a machine makes rounds slower, never faster. On one H200 a fifth to a half of the rounds of
    an unchanged engine took up to 20 % longer, and the others agreed within 0.2 %: by their faster halves launches
    spread by 0.3 % (inter-token latency), by trimmed means of paired log ratios by 1.9 % (docs/gates.md). What slows
    fewer than half of an engine's rounds, or scatters them, does not show in it; ``judge_launches`` passes no engine
    that is surely slower by all of its rounds.
    """
    ordered = np.sort(np.asarray(log_times, dtype=np.float64))
    count = len(ordered)
    kept = (count + 1) // 2
    winsorized = np.minimum(ordered, ordered[kept - 1])
    error = winsorized.std(ddof=1) * np.sqrt(count) / kept if count > 1 else np.inf
    return Half(float(ordered[:kept].mean()), float(error))


@dataclass(frozen=True)
class Launch:
    """What one launch of both sides gave.

    Attributes:
        base, head: log of each round's time in seconds; the sides ran in turn, each first equally often.
    """

    base: tuple[float, ...]
    head: tuple[float, ...]

    @property
    def number(self) -> float:
        """log(time of the base / time of the head): positive where the head is faster."""
        return faster_half(self.base).estimate - faster_half(self.head).estimate

    @property
    def whole(self) -> float:
        """The same by all rounds: the difference of the means of their log times."""
        return float(np.mean(self.base) - np.mean(self.head))

    @property
    def error(self) -> float:
        """Standard error of the number within this launch."""
        return float(np.hypot(faster_half(self.base).error, faster_half(self.head).error))

    @property
    def usable(self) -> bool:
        """Whether there are rounds of both, with times that are numbers."""
        return bool(self.base and self.head) and bool(np.all(np.isfinite([*self.base, *self.head])))


def locate_launches(numbers: Array, prior: ShiftPrior = LAUNCH_SPREAD) -> Location:
    """The mean over launches, and its standard error.

    Args:
        numbers: of each launch, last axis launches, at least two.
        prior: belief about their spread.

    The variance is moderated by the prior (Smyth 2004), as a few launches tell little of it: with L launches of
    variance s^2, it is (d s0^2 + (L-1) s^2) / (d + L-1) on d + L-1 degrees of freedom. Where the launches spread by
    more than the prior says, it counts for less: d = df min(1, s0^2 / s^2). With spreads of twice the prior's, a false
    FAIL is then 1.6 times as likely as stated, with three times, 3.5 times; with spreads up to the prior's it is less
    likely than stated (simulated, tests_harness/gates/test_launches.py).
    """
    values = np.asarray(numbers, dtype=np.float64)
    count = values.shape[-1]
    variance, df = _moderated(values.var(axis=-1, ddof=1), count - 1, prior)
    nothing = np.zeros(values.shape[:-1])
    return Location(np.asarray(values.mean(axis=-1)), np.asarray(np.sqrt(variance / count)), df, nothing, nothing)


def believed_spread(sessions: Sequence[Sequence[float]], prior: ShiftPrior = LAUNCH_SPREAD) -> ShiftPrior:
    """The belief about the spread once audits have measured it.

    Args:
        sessions: the numbers of the launches of each audit, two or more in each.
        prior: the belief before.

    The variance within the audits, moderated by the belief before as in ``locate_launches``: 12 launches that spread by
    less than was believed move it most of the way, 4 less than half; what spreads by more is believed sooner. How much
    the belief weighs in a race stays as it was, however many launches were audited: they show how an engine spreads on
    the days of the audits. On a day with twice that, a belief that counts for 15 launches raises 12 times the false
    alarms that are stated, and one that counts for 4 twice as many (docs/gates.md).
    """
    df = sum(len(numbers) - 1 for numbers in sessions)
    squares = sum(float(np.var(numbers, ddof=1)) * (len(numbers) - 1) for numbers in sessions)
    variance, _ = _moderated(np.asarray(squares / df), df, prior)
    return replace(prior, scale=float(np.sqrt(variance)))


def _moderated(own: Array, df: float, prior: ShiftPrior) -> tuple[Array, Array]:
    """A variance on ``df`` degrees of freedom moderated by the prior, and the degrees of freedom of both together."""
    believed = prior.scale**2
    weight = prior.df * np.minimum(1.0, np.divide(believed, own, out=np.ones_like(own), where=own > 0))
    total = np.asarray(weight + df)
    return np.asarray((weight * believed + df * own) / total), total


@dataclass(frozen=True)
class LaunchPower:
    """What the gate does at one true slowdown, by resampled launches.

    Attributes:
        slowdown: of the head, as a share.
        fails, passes: shares of resampled races.
        mean_launches: that a race takes.
    """

    slowdown: float
    fails: float
    passes: float
    mean_launches: float


def resample_launches(
    numbers: Sequence[float], policy: SpeedPolicy, slowdowns: Sequence[float], *, resamples: int = 4000, seed: int = 0
) -> list[LaunchPower]:
    """The gate's power and false alarms on this machine: measured launches, drawn with replacement.

    Args:
        numbers: of launches of one engine against an equal one, at least four; whatever they differ by on the mean is
            taken out, as a few launches cannot tell it from chance.
        policy: of the gate; its looks are counts of launches.
        slowdowns: true slowdowns put into the resampled races.
        resamples: races behind every share.
        seed: of the resampling.

    Draws of L launches spread by sqrt((L-1)/L) too little (Efron 1982), which is put right.
    """
    values = np.asarray(numbers, dtype=np.float64)
    count = len(values)
    centred = (values - values.mean()) * np.sqrt(count / (count - 1))
    generator = np.random.default_rng(seed)
    found = []
    for slowdown in slowdowns:
        drawn = generator.choice(centred, size=(resamples, policy.looks[-1])) - np.log1p(slowdown)
        outcome = decide_launches(drawn, policy)
        failed, passed = np.mean(outcome.status == FAILED), np.mean(outcome.status == PASSED)
        found.append(LaunchPower(slowdown, float(failed), float(passed), float(outcome.blocks.mean())))
    return found


def decide_launches(numbers: Array, policy: SpeedPolicy) -> Outcome:
    """Run the gate over many races, shape (races, launches), to their last planned look."""
    races = len(numbers)
    status, used = np.full(races, UNDECIDED, dtype=np.int8), np.zeros(races, dtype=np.int64)
    for look in policy.looks:
        still = np.flatnonzero(status == UNDECIDED)
        if not len(still):
            break
        location, final = locate_launches(numbers[still, :look], policy.shift), look == policy.looks[-1]
        status[still] = sequential_test(location, Anchor(0.0), policy, look, final=final).status
        used[still] = look
    return Outcome(status, used)


def judge_launches(
    launches: Sequence[Launch],
    policy: SpeedPolicy,
    *,
    metric: str,
    subject: str,
    base: str,
    final: bool,
    warnings: Sequence[str] = (),
    invalid: str | None = None,
) -> Verdict | None:
    """Judge a metric of the head against its live base at one look.

    Args:
        launches: those so far.
        policy: margins and error probabilities; its looks are counts of launches, its shift the belief about their
            spread.
        metric, subject, warnings, invalid: as in ``judge_speed``.
        base: the base's name for people.
        final: no more launches will come, so the answer must be a Verdict.

    Returns:
        A verdict, or None: nothing is decided and more launches may come. The hypotheses are those of ``judge_speed``,
        with an expected ratio of exactly 1.
    """
    gate = SpeedGate(Known(1.0), policy, metric, subject, base, tuple(warnings), unit="launches")
    count = len(launches)
    if not final and count not in policy.looks:
        return None
    if not count:
        return gate.unusable(0, "there was no launch")
    if not all(launch.usable for launch in launches):
        return gate.unusable(count, "a time is not a positive finite number")
    numbers = np.array([launch.number for launch in launches])
    if count < policy.looks[0]:
        ratio = float(np.exp(numbers.mean()))
        reason = f"only {count} launches, fewer than the {policy.looks[0]} of the first look"
        return gate.verdict(Status.INCONCLUSIVE, count, ratio, (np.nan, np.nan), reason=reason)
    last = final or next_look(count, policy) is None
    verdict = gate.look(locate_launches(numbers, policy.shift), count, last, invalid)
    if verdict is None or verdict.status is not Status.PASS:
        return verdict
    slower = _surely_slower(launches, policy)
    if slower is None:
        return verdict
    if not last:
        return None
    ratio, reason = verdict.estimate, f"by the faster half of its rounds it would pass, by all of them it is {slower}"
    return gate.verdict(Status.INCONCLUSIVE, count, ratio, verdict.interval, reason=reason)


def _surely_slower(launches: Sequence[Launch], policy: SpeedPolicy) -> str | None:
    """By how much the head is slower over all rounds, where that is surely more than the margin; None elsewhere.

    What slows a part of an engine's rounds, or scatters them, hides from their faster half.
    """
    whole = locate_launches(np.array([launch.whole for launch in launches]), policy.shift)
    slower = -float(whole.estimate)
    if slower - float(half_width(whole, Anchor(0.0), _SURE)) <= np.log1p(policy.margin):
        return None
    return f"slower by {100 * np.expm1(slower):.1f} %"


def replay_launches(
    launches: Sequence[Launch],
    policy: SpeedPolicy,
    *,
    metric: str,
    subject: str,
    base: str,
    warnings: Sequence[str] = (),
    invalid: str | None = None,
) -> Verdict:
    """The verdict that a race of these launches gave: at the first look that decides, or the last."""
    count = len(launches)

    def judged(look: int, final: bool) -> Verdict | None:
        return judge_launches(
            launches[:look],
            policy,
            metric=metric,
            subject=subject,
            base=base,
            final=final,
            warnings=warnings,
            invalid=invalid,
        )

    # One that stopped as all was decided had not spent all of its error rate: a planned look is a plain one first.
    return first_decision([look for look in policy.looks if look <= count], count, judged)
