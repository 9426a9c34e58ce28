"""Gates of serving: a service level, the rate up to which it holds, a growing queue, one trace on two engines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from enginegate.gates.launches import locate_launches
from enginegate.gates.order_statistics import effective_size
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Known
from enginegate.gates.speed import SpeedGate
from enginegate.gates.verdict import TAIL, Status, Verdict

#: Beyond this many requests nobody waits for a decision.
_TOO_MANY = 10_000_000


@dataclass(frozen=True)
class SloPolicy:
    """How many requests must keep a service level, and how sure it must be.

    Attributes:
        share: of the requests, at least.
        alpha: probability of a false FAIL.
        beta: probability of a false PASS; 0.01 is the confidence of MLPerf's rule.
    """

    share: float = 0.99
    alpha: float = 0.01
    beta: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"a share of {self.share} is not between 0 and 1")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ValueError(f"alpha {self.alpha} and beta {self.beta} must lie between 0 and 0.5")


def late_bounds(late: float, requests: float, tail_low: float, tail_high: float) -> tuple[float, float]:
    """Exact bounds of the share of late requests (Clopper and Pearson, *Biometrika* 26, 1934).

    ``late`` and ``requests`` may be fractions, as effective counts are: the bounds are quantiles of beta distributions.
    """
    low = float(scipy.stats.beta.ppf(tail_low, late, requests - late + 1)) if late > 0 else 0.0
    high = float(scipy.stats.beta.isf(tail_high, late + 1, requests - late)) if late < requests else 1.0
    return low, high


def decide_share(late: float, requests: float, policy: SloPolicy) -> Status:
    """FAIL where more are late than allowed, PASS where fewer are, each with its own error probability."""
    low, high = late_bounds(late, requests, policy.alpha, policy.beta)
    allowed = 1 - policy.share
    return Status.FAIL if low > allowed else Status.PASS if high <= allowed else Status.INCONCLUSIVE


def requests_to_decide(late_share: float, policy: SloPolicy) -> int | None:
    """How many independent requests decide, where ``late_share`` of them are late; None where no number would.

    With none late it is the number that MLPerf's loadgen asks for: 459 for 99 % at an error of 1 %.
    """
    if late_share <= 0:
        return math.ceil(math.log(policy.beta) / math.log(policy.share))

    def undecided(requests: int) -> bool:
        return decide_share(late_share * requests, requests, policy) is Status.INCONCLUSIVE

    high = 1
    while undecided(high):
        high *= 2
        if high > _TOO_MANY:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if undecided(middle) else (low, middle)
    return high


def effective_requests(scores: Sequence[float]) -> float:
    """As how many independent requests these count, for the share that is late.

    Late requests come in clusters, since they wait in one queue. The series looked at is "late"; where fewer than a
    tenth are, it is "among the slowest tenth", whose clusters are no smaller.

    Args:
        scores: of each request, in the order of arrival: the largest of latency over limit; late above 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        return 0.0
    threshold = min(1.0, float(np.quantile(values, 0.9, method="lower")))
    return effective_size((values > threshold).astype(np.float64))


def judge_slo(
    scores: Sequence[float],
    policy: SloPolicy,
    *,
    metric: str = "slo",
    subject: str = "",
    level: str = "",
    backlog: Saturation | None = None,
    warnings: Sequence[str] = (),
    invalid: str | None = None,
) -> Verdict:
    """Judge "so many of the requests keep the service level": an exact binomial test of three values.

    Args:
        scores: of each request, in the order of arrival: the largest of latency over limit, infinite where it failed.
        policy: the share asked for, and the error probabilities.
        metric: name for the verdict.
        subject: what is judged, for the explanation.
        level: the service level in words.
        backlog: whether requests pile up, tested at half of ``policy.alpha``; None where nobody looked.
        warnings: carried on the verdict.
        invalid: why nothing is concluded from these requests, whatever they show.

    PASS rejects "more are late than allowed", FAIL rejects "no more are late than allowed". Requests of one queue are
    not independent, so the test counts late and all requests by their effective number (``effective_requests``).

    Beyond capacity no number of requests is enough for that: those that come later are later, so that the run is one
    long cluster. There it is the growing queue that shows it: where requests surely pile up, latencies have no end, and
    the level is not kept at this rate. That is a FAIL once fewer than asked kept it, and no PASS before.
    """
    values = np.asarray(scores, dtype=np.float64)
    count, late = len(values), int(np.sum(~(values <= 1)))
    name = f"{subject}: " if subject else ""
    if not count:
        return _slo(Status.FAIL, math.nan, (math.nan, math.nan), 0, policy, metric, f"{name}no request was measured")
    effective = effective_requests(scores)
    stretch = count / effective
    share = policy if backlog is None else replace(policy, alpha=policy.alpha / 2)
    status = decide_share(late / stretch, effective, share)
    ends = late_bounds(late / stretch, effective, TAIL, TAIL)
    kept = 1 - late / count
    text = (
        f"{name}{count - late} of {count} requests keep {level or 'the service level'}"
        f" ({100 * kept:.1f} % [{100 * (1 - ends[1]):.1f}, {100 * (1 - ends[0]):.1f}]),"
        f" {100 * policy.share:g} % are asked for"
    )
    notes = list(warnings)
    if stretch > 1.05:
        notes.append(f"requests that wait in one queue are alike: {count} of them count as {effective:.0f}")
    if backlog is not None and backlog.saturated:
        low, high = max(0.0, backlog.low), min(1.0, backlog.high)
        text += f"; requests pile up: {100 * low:.0f} to {100 * high:.0f} % of them are not served in time to come,"
        text += f" and the last answer came {backlog.drain:.1f} s after the last was due"
        status = Status.FAIL if kept < policy.share else Status.INCONCLUSIVE
        if invalid is None and status is Status.INCONCLUSIVE:
            invalid = "the level is still kept, which it will not be as the queue grows"
    if invalid is not None:
        status, text = Status.INCONCLUSIVE, f"{text}; undecided: {invalid}"
    elif status is Status.INCONCLUSIVE:
        text += f"; undecided: {_needed(late / count, stretch, policy)}"
    return _slo(status, kept, (1 - ends[1], 1 - ends[0]), count, policy, metric, text, tuple(notes))


def _needed(late_share: float, stretch: float, policy: SloPolicy) -> str:
    none = math.ceil((requests_to_decide(0, policy) or 0) * stretch)
    if late_share == 0:
        return f"{none} requests with none late would decide"
    as_now = requests_to_decide(late_share, policy)
    if as_now is None:
        return "about as many are late as are allowed, so hardly any number of requests would decide"
    return f"about {math.ceil(as_now * stretch)} requests would decide where as many of them are late as now"


def _slo(
    status: Status,
    kept: float,
    interval: tuple[float, float],
    count: int,
    policy: SloPolicy,
    metric: str,
    text: str,
    warnings: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(
        status=status,
        metric=metric,
        estimate=kept,
        interval=interval,
        unit="share",
        baseline=policy.share,
        change=None,
        margin=0.0,
        alpha=policy.alpha,
        smallest_visible=None,
        samples=count,
        explanation=text,
        warnings=warnings,
    )


@dataclass(frozen=True)
class Saturation:
    """Whether requests pile up: what arrives and is not served in the same time.

    Attributes:
        saturated: surely so.
        growth: by how many requests the backlog grew from the first arrival looked at to the last.
        limit: growth that chance alone exceeds with the stated probability, at exactly capacity.
        share: growth over arrivals: what part of the offered requests is not served in time.
        low, high: interval of ``share``.
        drain: seconds from the last arrival to the last answer.
    """

    saturated: bool
    growth: float
    limit: float
    share: float
    low: float
    high: float
    drain: float


def saturation(
    arrived: Sequence[float],
    finished: Sequence[float],
    *,
    alpha: float = 0.01,
    start: float = 0.0,
    service_dispersion: float = 1.0,
) -> Saturation:
    """Test for a queue that grows, with a stated probability of a false alarm.

    Beyond capacity the backlog grows with the number n of arrivals; at exactly capacity it grows, too, as the root of
    n: it is then |N(0, (a + s) n)|, a and s being the squared coefficients of variation of the times between arrivals
    and of the service (Iglehart and Whitt, *Advances in Applied Probability* 2, 1970). A fixed threshold would call
    every long run at capacity saturated. Here the alarm is given beyond that distribution's quantile, so that it is
    false with probability ``alpha`` at capacity and less often below.

    Args:
        arrived: when each request was due, seconds, not decreasing.
        finished: when each was answered; infinite where it never was.
        alpha: probability of a false alarm.
        start: arrivals before it are left out, as the queue fills up then.
        service_dispersion: squared coefficient of variation of the service, at least that of the work in a request.
    """
    due, done = np.asarray(arrived, dtype=np.float64), np.sort(np.asarray(finished, dtype=np.float64))
    kept = due[due >= start]
    count = len(kept)
    if count < 2:
        return Saturation(False, 0.0, math.inf, math.nan, math.nan, math.nan, 0.0)
    backlog = _backlog(due, done, kept[[0, -1]])
    growth = float(backlog[1] - backlog[0])
    between = np.diff(kept)
    arrivals = float(np.var(between) / np.mean(between) ** 2) if between.mean() > 0 else 0.0
    spread = math.sqrt((arrivals + max(service_dispersion, 1.0)) * (count - 1))
    limit = float(scipy.stats.norm.isf(alpha / 2)) * spread
    reach = float(scipy.stats.norm.isf(TAIL)) * spread
    ends = done[np.isfinite(done)]
    drain = max(0.0, float(ends[-1] - due[-1])) if len(ends) else math.inf
    share = growth / (count - 1)
    return Saturation(
        growth > limit, growth, limit, share, share - reach / (count - 1), share + reach / (count - 1), drain
    )


def _backlog(due: NDArray[np.float64], done: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many requests have come and are not answered, right after each time."""
    return np.searchsorted(due, times, side="right") - np.searchsorted(done, times, side="right")


@dataclass(frozen=True)
class RateTrial:
    """One rate that was tried, requests a second, and whether the service level holds there."""

    rate: float
    status: Status


@dataclass(frozen=True)
class Capacity:
    """The highest rate at which the service level holds lies between these; 0 or infinite where an end is not known."""

    low: float
    high: float


def capacity(trials: Sequence[RateTrial]) -> Capacity:
    """What some trials say of the capacity: from the highest rate that passed below all that failed, to the lowest that
    failed. Trials without a decision widen nothing: they lie within.
    """
    high = min((trial.rate for trial in trials if trial.status is Status.FAIL), default=math.inf)
    low = max((trial.rate for trial in trials if trial.status is Status.PASS and trial.rate < high), default=0.0)
    return Capacity(low, high)


def next_rate(trials: Sequence[RateTrial], start: float, tolerance: float, most: float = math.inf) -> float | None:
    """The rate to try next, or None where the capacity is known as well as it can be.

    Doubles or halves until the capacity lies between two rates, then takes the geometric middle of what is left beside
    either end: a rate at which nothing was decided is not tried again.

    Args:
        trials: so far.
        start: the first rate.
        tolerance: the interval is narrow enough where its ends differ by no more (0.1 = 10 %).
        most: no rate beyond it is tried.
    """
    if not trials:
        return min(start, most)
    found, rates = capacity(trials), sorted({trial.rate for trial in trials})
    if math.isinf(found.high):
        return None if rates[-1] >= most else min(2 * rates[-1], most)
    if found.low == 0:
        return rates[0] / 2 if rates[0] > start / 1024 else None
    inside = [rate for rate in rates if found.low <= rate <= found.high]
    for below, above in ((inside[0], inside[1]), (inside[-2], inside[-1])):
        if above / below > 1 + tolerance:
            return math.sqrt(below * above)
    return None


def knee(rates: Sequence[float], latencies: Sequence[float]) -> float | None:
    """The rate at which a latency turns up: where the curve lies furthest below the line between its ends.

    Both axes are taken from 0 to 1 first (Satopaa and others, *Finding a "kneedle" in a haystack*, 2011). None of fewer
    than three rates, and where the latency does not rise.
    """
    order = np.argsort(rates)
    x, y = np.asarray(rates, np.float64)[order], np.asarray(latencies, np.float64)[order]
    if len(x) < 3 or not (np.ptp(x) > 0 and y[-1] > y[0]):
        return None
    below = (x - x[0]) / np.ptp(x) - (y - y[0]) / (y[-1] - y[0])
    return float(x[int(np.argmax(below))]) if below.max() > 0 else None


def judge_pairs(
    numbers: Sequence[float],
    policy: SpeedPolicy,
    *,
    metric: str,
    subject: str = "",
    base: str = "",
    slower: float | None = None,
    warnings: Sequence[str] = (),
    invalid: str | None = None,
) -> Verdict:
    """Judge a latency of serving against a live base that served the same traces in turn.

    Args:
        numbers: of each pair of runs, log(latency of the base / latency of the head), the median over its requests:
            positive where the head is faster. Requests of one run share its queue and the machine of that minute, so
            the run is what is counted.
        policy: margins and error probabilities; its shift is the belief about the spread of pairs.
        metric: name for the verdict.
        subject: what is judged, for the explanation.
        base: the base's name for people.
        slower: share of the requests that were slower than on the base, for the explanation.
        warnings: carried on the verdict.
        invalid: why nothing is concluded.

    Without a base (no name, no numbers) it says NO_BASELINE.
    """
    notes = list(warnings)
    if slower is not None:
        notes.append(f"{100 * slower:.0f} % of the requests took longer than on the base")
    values = np.asarray(numbers, dtype=np.float64)
    count = len(values)
    if not base and not count:
        alone = SpeedGate(None, policy, metric, subject, "", tuple(notes), unit="pairs of runs")
        return alone.verdict(Status.NO_BASELINE, 0, math.nan, (math.nan, math.nan))
    gate = SpeedGate(Known(1.0), policy, metric, subject, base, tuple(notes), unit="pairs of runs")
    if not count:
        return gate.unusable(0, "there was no pair of runs")
    if not np.all(np.isfinite(values)):
        return gate.unusable(count, "a latency is not a positive finite number")
    if count < policy.looks[0]:
        reason = f"only {count} pairs of runs, fewer than the {policy.looks[0]} that decide"
        nothing = (math.nan, math.nan)
        return gate.verdict(Status.INCONCLUSIVE, count, float(np.exp(values.mean())), nothing, reason=reason)
    verdict = gate.look(locate_launches(values, policy.shift), count, True, invalid)
    assert verdict is not None  # a last look always gives one
    return verdict


def credits_of(kept: Sequence[bool], block: int) -> dict[str, float]:
    """The share of requests that kept the service level, by blocks of neighbours, as items of the accuracy gate.

    Neighbours in a queue are alike; blocks of as many as are alike are nearly independent of each other.
    """
    values = np.asarray(kept, dtype=np.float64)
    return {f"{first:06d}": float(values[first : first + block].mean()) for first in range(0, len(values), block)}


def block_length(kept: Mapping[str, Sequence[bool]]) -> int:
    """How many neighbours are alike, in any of some series."""
    sizes = [len(each) / effective_size(np.asarray(each, dtype=np.float64)) for each in kept.values() if len(each)]
    return max(1, math.ceil(max(sizes, default=1.0)))
