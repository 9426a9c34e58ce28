"""The sequential core of the speed gate: looks, levels, bounds and decisions, for one series or many at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from enginegate.gates.robust import MAX_AUTOCORRELATION, MIN_BLOCKS, TRIM, Array, Location, locate
from enginegate.gates.sessions import Anchor, ShiftPrior
from enginegate.gates.spending import nominal_levels

#: Belief about the shift of an interleaved ratio between sessions, where nobody says another: three processes within an
#: hour on a shared 2-core machine spread by 0.3 %, whose 95 % upper limit on 2 degrees of freedom is 1.3 %. Sessions of
#: a day spread by more; the configuration's ``gates.speed.shift`` says so.
RATIO_SHIFT = ShiftPrior(scale=0.007, df=4.0)
#: What stored policies still have: neither could be set, and neither moved a verdict.
_FORMER = ("confidence", "seed")
#: Decisions of many series at once.
UNDECIDED, PASSED, FAILED = 0, 1, 2


@dataclass(frozen=True)
class SpeedPolicy:
    """What a speed gate tolerates, and how sure it must be.

    Attributes:
        margin: a slowdown up to this is no failure (m): FAIL rejects "slowdown <= m".
        tolerated: a slowdown from this on must not pass (M): PASS rejects "slowdown >= M". The defaults suit stored
            sessions; where the reference is the previous build in the same arena, 0.02 and 0.06 see more.
        alpha: probability of a false FAIL of this gate, over all its looks; share a family's budget with
            ``family.split_alpha`` first.
        beta: probability of a false PASS of this gate, over all its looks.
        looks: block counts at which it looks, increasing and even (both orders equally often).
        shift: belief about the session-to-session shift of the ratio, for baselines of few sessions.
        correlation: lag-1 autocorrelation of this machine's blocks as its audit measured it; early looks are too
            short to see it for themselves.
        power: power at which the smallest visible change is stated.
    """

    margin: float = 0.03
    tolerated: float = 0.08
    alpha: float = 0.01
    beta: float = 0.05
    looks: tuple[int, ...] = (6, 10, 16, 24, 40)
    shift: ShiftPrior = field(default=RATIO_SHIFT)
    correlation: float = 0.0
    power: float = 0.90

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= self.tolerated:
            raise ValueError(f"margin {self.margin} must lie between 0 and tolerated {self.tolerated}")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ValueError(f"alpha {self.alpha} and beta {self.beta} must lie between 0 and 0.5")
        if not self.looks or self.looks[0] < MIN_BLOCKS or list(self.looks) != sorted(set(self.looks)):
            raise ValueError(f"looks {self.looks} must increase from at least {MIN_BLOCKS} blocks")


def restore_policy(values: Mapping[str, Any]) -> SpeedPolicy:
    """A policy from what ``dataclasses.asdict`` made of it, through JSON or not, without fields that it had once."""
    kept = {name: value for name, value in values.items() if name not in _FORMER}
    return SpeedPolicy(**{**kept, "looks": tuple(values["looks"]), "shift": ShiftPrior(**values["shift"])})


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
    squared = (stdtrit(location.df, 1.0 - level) * location.error) ** 2
    for error, df in ((anchor.error, anchor.error_df), (anchor.shift, anchor.shift_df)):
        if np.any(error):
            squared = squared + (stdtrit(df, 1.0 - level) * error) ** 2
    return np.asarray(np.sqrt(squared))


@dataclass(frozen=True)
class SequentialTest:
    """One look at one series, or at many: everything is a log ratio, positive for slower.

    Attributes:
        slower: estimated slowdown.
        least: lower bound of the slowdown, at this look's share of alpha.
        most: upper bound of the slowdown, at this look's share of beta.
        correlated: the blocks are too correlated to be a sample; nothing is decided.
        status: UNDECIDED, PASSED or FAILED.
    """

    slower: Array
    least: Array
    most: Array
    correlated: NDArray[np.bool_]
    status: NDArray[np.int8]


def sequential_test(
    location: Location, anchor: Anchor, policy: SpeedPolicy, count: int, *, final: bool, floor: bool = False
) -> SequentialTest:
    """The decision at a look of ``count`` blocks; ``floor`` takes the anchor itself for both bounds."""
    low, high = bounds(policy, floor=floor)
    slower = np.asarray(anchor.estimate - location.estimate)
    least = slower - half_width(location, anchor, fail_level(count, policy, final=final))
    most = slower + half_width(location, anchor, pass_level(count, policy, final=final))
    correlated = np.asarray(location.autocorrelation >= MAX_AUTOCORRELATION)
    decided = np.where(least > low, FAILED, np.where(most < high, PASSED, UNDECIDED))
    return SequentialTest(slower, least, most, correlated, np.where(correlated, UNDECIDED, decided).astype(np.int8))


def bounds(policy: SpeedPolicy, *, floor: bool) -> tuple[float, float]:
    """Logs of the slowdown that is no failure and of the slowdown that must not pass."""
    return (0.0, 0.0) if floor else (float(np.log1p(policy.margin)), float(np.log1p(policy.tolerated)))


@dataclass(frozen=True)
class Outcome:
    """Decisions of many series: ``status`` UNDECIDED, PASSED or FAILED, and the blocks each used."""

    status: NDArray[np.int8]
    blocks: NDArray[np.int64]


def decide_many(
    log_ratios: Array,
    anchor: Anchor,
    policy: SpeedPolicy,
    *,
    trim: float = TRIM,
    order: Array | None = None,
) -> Outcome:
    """Run the gate over many series of log ratios, shape (series, blocks), to their last planned look.

    ``order``: see ``locate``; of shape (blocks,), or of the series' own.
    """
    series, count = log_ratios.shape
    status = np.full(series, UNDECIDED, dtype=np.int8)
    blocks = np.zeros(series, dtype=np.int64)
    looks = [look for look in policy.looks if look <= count] or [count]
    for look in looks:
        still = np.flatnonzero(status == UNDECIDED)
        if not len(still):
            break
        ran = None if order is None else order[still, :look] if order.ndim > 1 else order[:look]
        location = locate(log_ratios[still, :look], trim, policy.correlation, ran)
        final = look == looks[-1]
        status[still] = sequential_test(location, anchor.at(still), policy, look, final=final).status
        blocks[still] = look
    return Outcome(status, blocks)
