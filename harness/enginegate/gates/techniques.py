"""Gates of the techniques of serving: a ratio of paired runs, a rate of changed tokens, an order that is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import scipy

from enginegate.gates.verdict import TAIL, Status, Verdict

_LEAST_PAIRS = 3


def judge_ratio(
    ratios: Sequence[float], floor: float | None, *, metric: str, subject: str, alpha: float, beta: float
) -> Verdict:
    """Whether the ratio of paired runs is at least ``floor``, by Student's t on the logarithms of the pairs' ratios.

    FAIL where it is below with an error probability of ``alpha``, PASS where it is above with one of ``beta``, and
    INCONCLUSIVE where the pairs show neither. The pairs are independent: each has prompts of its own, and its two runs
    stand next to each other.

    Args:
        ratios: one a pair, larger is better.
        floor: at least this; None: there is nothing to compare with.
        metric: for the verdict.
        subject: what is judged, in a few words.
        alpha: probability of a FAIL where the true ratio is the floor.
        beta: probability of a PASS where it is.
    """
    usable = [math.log(ratio) for ratio in ratios if ratio > 0 and math.isfinite(ratio)]
    count = len(usable)
    mean = fmean(usable) if usable else math.nan
    error = stdev(usable) / math.sqrt(count) if count >= 2 else math.nan

    def verdict(status: Status, words: str, interval: tuple[float, float] = (math.nan, math.nan)) -> Verdict:
        return Verdict(
            status=status,
            metric=metric,
            estimate=math.exp(mean),
            interval=interval,
            unit="x",
            baseline=floor,
            change=None if floor is None or not usable else 1.0 - math.exp(mean) / floor,
            margin=0.0,
            alpha=alpha,
            smallest_visible=None,
            samples=count,
            explanation=f"{subject}: {words}",
        )

    if count < len(ratios):
        return verdict(Status.FAIL, f"{len(ratios) - count} of {len(ratios)} pairs have no ratio: a run gave nothing")
    if count < _LEAST_PAIRS:
        return verdict(Status.INCONCLUSIVE, f"{count} pairs of runs, at least {_LEAST_PAIRS} are needed")
    width = float(scipy.stats.t.ppf(1.0 - TAIL, count - 1)) * error
    interval = math.exp(mean - width), math.exp(mean + width)
    found = f"{math.exp(mean):.3g} times ({interval[0]:.3g} to {interval[1]:.3g}, {count} pairs)"
    if floor is None:
        return verdict(Status.PASS, f"{found}, no floor is set", interval)
    left = mean - math.log(floor)
    if left + float(scipy.stats.t.ppf(1.0 - alpha, count - 1)) * error < 0:
        return verdict(Status.FAIL, f"{found}, below the {floor:g} that are asked for", interval)
    if left - float(scipy.stats.t.ppf(1.0 - beta, count - 1)) * error >= 0:
        return verdict(Status.PASS, f"{found}, at least {floor:g} are asked for", interval)
    needed = _pairs_needed(left, stdev(usable), beta)
    more = f"about {needed} pairs would decide" if needed else "it is too near for any number of pairs"
    return verdict(Status.INCONCLUSIVE, f"{found}, asked for are {floor:g}: {more}", interval)


def _pairs_needed(distance: float, spread: float, beta: float) -> int:
    """So many pairs would show a distance from the floor, by the normal distribution; 0 for more than a thousand."""
    if not distance:
        return 0
    needed = math.ceil((2.0 * float(scipy.stats.norm.ppf(1.0 - beta)) * spread / abs(distance)) ** 2)
    return needed if needed <= 1000 else 0


def judge_mismatches(
    wrong: int, compared: int, limit: float, *, metric: str, subject: str, alpha: float, beta: float
) -> Verdict:
    """Whether the rate of changed tokens is at most ``limit``, by the exact binomial test (Clopper and Pearson 1934).

    Each token up to the first that differs is one trial, as both engines chose it behind the same tokens; what follows
    is none.

    Args:
        wrong: answers that differ in a way that rounding does not explain: one token each.
        compared: trials.
        limit: the rate, at most.
        metric: for the verdict.
        subject: what is judged, in a few words.
        alpha: probability of a FAIL at a rate of ``limit``.
        beta: probability of a PASS at a rate of ``limit``.
    """
    rate = wrong / compared if compared else math.nan

    def verdict(status: Status, words: str) -> Verdict:
        interval = (_lower(wrong, compared, TAIL), _upper(wrong, compared, TAIL))
        return Verdict(
            status=status,
            metric=metric,
            estimate=rate,
            interval=interval,
            unit="share of tokens",
            baseline=limit,
            change=None,
            margin=0.0,
            alpha=alpha,
            smallest_visible=None,
            samples=compared,
            explanation=f"{subject}: {words}",
        )

    found = f"{wrong} of {compared} tokens changed"
    if not compared:
        return verdict(Status.FAIL, "no token could be compared")
    if _lower(wrong, compared, alpha) > limit:
        return verdict(Status.FAIL, f"{found}, more than the share of {limit:g} that is tolerated")
    if _upper(wrong, compared, beta) <= limit:
        return verdict(Status.PASS, f"{found}, tolerated is a share of {limit:g}")
    clean = math.ceil(math.log(beta) / math.log1p(-limit)) if 0 < limit < 1 else 0
    more = f"{clean} tokens without a change would decide" if clean else "a limit of 0 can never be shown"
    return verdict(Status.INCONCLUSIVE, f"{found}, tolerated is a share of {limit:g}: {more}")


def _lower(wrong: int, compared: int, tail: float) -> float:
    return float(scipy.stats.beta.ppf(tail, wrong, compared - wrong + 1)) if wrong and compared else 0.0


def _upper(wrong: int, compared: int, tail: float) -> float:
    return float(scipy.stats.beta.ppf(1.0 - tail, wrong + 1, compared - wrong)) if wrong < compared else 1.0


def judge_overtaken(most: Sequence[float], limit: int, *, metric: str, subject: str, alpha: float) -> Verdict:
    """Whether requests are served in their order: in no run was one overtaken by more than ``limit`` later ones.

    It is counted, so it needs no error rate: an engine that takes requests in their order gives the first tokens of one
    batch together, and lets nobody pass who came later than that.
    """
    worst = max(most, default=math.nan)
    usable = bool(most) and all(math.isfinite(each) for each in most)
    status = Status.PASS if usable and worst <= limit else Status.FAIL
    words = f"at most {worst:g} later requests had their first token before an earlier one, {limit} are tolerated"
    return Verdict(
        status=status,
        metric=metric,
        estimate=worst,
        interval=(math.nan, math.nan),
        unit="requests",
        baseline=float(limit),
        change=None,
        margin=0.0,
        alpha=alpha,
        smallest_visible=None,
        samples=len(most),
        explanation=f"{subject}: {words}" if usable else f"{subject}: no run says who was served when",
    )
