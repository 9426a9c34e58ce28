"""The sequential core of the speed gate: looks, levels, bounds and decisions, for one series or many at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.gates.robust import MIN_BLOCKS, TRIM, Array, Location, locate
from harness.gates.sessions import Anchor, ShiftPrior
from harness.gates.spending import nominal_levels

#: Decisions of many series at once.
UNDECIDED, PASSED, FAILED = 0, 1, 2


@dataclass(frozen=True)
class SpeedPolicy:
    """What a speed gate tolerates, and how sure it must be.

    Attributes:
        margin: a slowdown up to this is no failure (m): FAIL rejects "slowdown <= m".
        tolerated: a slowdown from this on must not pass (M): PASS rejects "slowdown >= M".
        alpha: probability of a false FAIL of this gate, over all its looks; share a family's budget with
            ``family.split_alpha`` first.
        beta: probability of a false PASS of this gate, over all its looks.
        looks: block counts at which it looks, increasing and even (both orders equally often).
        shift: belief about the session-to-session shift of the ratio, for baselines of few sessions.
        confidence: level of the reported interval.
        power: power at which the smallest visible change is stated.
        seed: for whatever resamples; the gate itself draws nothing.
    """

    margin: float = 0.03
    tolerated: float = 0.08
    alpha: float = 0.01
    beta: float = 0.05
    looks: tuple[int, ...] = (6, 10, 16, 24, 40)
    shift: ShiftPrior = field(default_factory=lambda: ShiftPrior(scale=0.005, df=3.0))
    confidence: float = 0.95
    power: float = 0.90
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= self.tolerated:
            raise ValueError(f"margin {self.margin} must lie between 0 and tolerated {self.tolerated}")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ValueError(f"alpha {self.alpha} and beta {self.beta} must lie between 0 and 0.5")
        if not self.looks or self.looks[0] < MIN_BLOCKS or list(self.looks) != sorted(set(self.looks)):
            raise ValueError(f"looks {self.looks} must increase from at least {MIN_BLOCKS} blocks")


def next_look(count: int, policy: SpeedPolicy) -> int | None:
    """The block count of the next look after ``count`` blocks, or None when there is none left."""
    return next((look for look in policy.looks if look > count), None)


def looks_until(count: int, policy: SpeedPolicy) -> tuple[int, ...]:
    """Counts of the looks taken up to and including one at ``count``."""
    return (*(look for look in policy.looks if look < count), count)


def level_at(count: int, policy: SpeedPolicy, total: float, *, final: bool, early: bool = True) -> float:
    """One-sided nominal level at a look of ``count`` blocks whose whole sequence may err with probability ``total``.

    A last look before the plan's end (the time budget is spent) gets all of the error that is left: when it comes
    does not depend on the ratio, so nothing is lost.
    """
    return nominal_levels(looks_until(count, policy), policy.looks[-1], total, final=final, early=early)[-1]


def fail_level(count: int, policy: SpeedPolicy, *, final: bool) -> float:
    """Level of the FAIL test at a look: spent late, when the noise and its correlation are known."""
    return level_at(count, policy, policy.alpha, final=final, early=False)


def pass_level(count: int, policy: SpeedPolicy, *, final: bool) -> float:
    """Level of the PASS test at a look: spent early, because most runs pass and should do so soon."""
    return level_at(count, policy, policy.beta, final=final)


def half_width(location: Location, anchor: Anchor, level: float) -> Array:
    """One-sided half width of the bound on (anchor - location), log ratio.

    Noise of this session, noise of the stored sessions and the shift between sessions each have their own degrees of
    freedom; their own half widths add in quadrature (method of variance estimates recovery, Zou and Donner 2008).
    """
    noise = stdtrit(location.df, 1.0 - level) * np.hypot(location.error, anchor.error)
    if not np.any(anchor.shift):
        return np.asarray(noise)
    return np.asarray(np.hypot(noise, stdtrit(anchor.shift_df, 1.0 - level) * anchor.shift))


@dataclass(frozen=True)
class Outcome:
    """Decisions of many series: ``status`` UNDECIDED, PASSED or FAILED, and the blocks each used."""

    status: NDArray[np.int8]
    blocks: NDArray[np.int64]


def decide_many(
    log_ratios: Array, anchor: Anchor, policy: SpeedPolicy, *, floor: bool = False, trim: float = TRIM
) -> Outcome:
    """Run the gate over many series of log ratios, shape (series, blocks); all looks up to the last that fits."""
    series, count = log_ratios.shape
    status = np.full(series, UNDECIDED, dtype=np.int8)
    blocks = np.zeros(series, dtype=np.int64)
    low, high = (0.0, 0.0) if floor else (np.log1p(policy.margin), np.log1p(policy.tolerated))
    looks = [look for look in policy.looks if look <= count] or [count]
    for look in looks:
        final = look == looks[-1]
        still = np.flatnonzero(status == UNDECIDED)
        if not len(still):
            break
        here = Anchor(_at(anchor.estimate, still), _at(anchor.error, still), _at(anchor.shift, still), anchor.shift_df)
        location = locate(log_ratios[still, :look], trim)
        slower = np.asarray(here.estimate) - location.estimate
        fail = slower - half_width(location, here, fail_level(look, policy, final=final)) > low
        good = slower + half_width(location, here, pass_level(look, policy, final=final)) < high
        status[still] = np.where(fail, FAILED, np.where(good, PASSED, UNDECIDED))
        blocks[still] = look
    return Outcome(status, blocks)


def _at(value: Array | float, index: NDArray[np.int64]) -> Array | float:
    array = np.asarray(value)
    return np.asarray(array[index]) if array.ndim else float(array)
