"""Items that two engines both answered: pairing by item hash, and the one-sided bounds every paired gate needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import ndtri, stdtrit

from enginegate.gates.robust import Array
from enginegate.gates.verdict import TAIL, Status, Verdict

Value = TypeVar("Value")


@dataclass(frozen=True)
class QualityPolicy:
    """What a quality gate tolerates, and how sure it must be. Losses are in the metric's own unit.

    Attributes:
        alpha: probability of a false FAIL.
        beta: probability of a false PASS.
        margin: a loss up to this is no failure, for corpus scores (their unit) and perplexity (relative).
        tolerated: a loss from this on must not pass, likewise.
        tolerance: for accuracy, the loss that is tolerated (0.02 = 2 points), or None to fail on any shown loss.
        visible: for accuracy without a tolerance, the loss that the gate must be able to see before it may pass.
        power: power at which the smallest visible loss is stated.
        coverage: share of the baseline's items that the candidate must have answered.
        min_items: fewer common items than this decide nothing.
        resamples: bootstrap resamples.
        seed: of the bootstrap.
    """

    alpha: float = 0.01
    beta: float = 0.05
    margin: float = 0.01
    tolerated: float = 0.03
    tolerance: float | None = None
    visible: float = 0.03
    power: float = 0.80
    coverage: float = 0.95
    min_items: int = 20
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= self.tolerated:
            raise ValueError(f"margin {self.margin} must lie between 0 and tolerated {self.tolerated}")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ValueError(f"alpha {self.alpha} and beta {self.beta} must lie between 0 and 0.5")


@dataclass(frozen=True)
class Pairing:
    """Common items of two mappings, in sorted order, so that a result does not depend on the order of a file."""

    common: tuple[str, ...]
    added: int
    removed: int

    @property
    def coverage(self) -> float:
        """Share of the baseline's items that were answered again."""
        known = len(self.common) + self.removed
        return len(self.common) / known if known else 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What changed between the two sets of items."""
        if not (self.added or self.removed):
            return ()
        return (
            f"items differ from the baseline's: {self.added} added, {self.removed} removed; only common ones count",
        )


@dataclass(frozen=True)
class Hidden:
    """A loss that a score would not show.

    Attributes:
        reason: why not; empty where nothing is hidden.
        extent: what of it there may be, given the largest loss that was shown; in the score's unit, both.
        everything: nothing would be shown, so that the score is no evidence of a loss either.
    """

    reason: str = ""
    extent: Callable[[float], float] = lambda _: 0.0
    everything: bool = False


def pair(candidate: Mapping[str, Value], baseline: Mapping[str, Value]) -> Pairing:
    """Pair two mappings of item hash to value."""
    common = tuple(sorted(candidate.keys() & baseline.keys()))
    return Pairing(common, len(candidate) - len(common), len(baseline) - len(common))


def too_few(pairing: Pairing, policy: QualityPolicy) -> str | None:
    """Why these items can decide nothing, or None."""
    if len(pairing.common) < policy.min_items:
        return f"only {len(pairing.common)} common items, fewer than {policy.min_items}"
    if pairing.coverage < policy.coverage:
        return f"only {pairing.coverage:.0%} of the baseline's items were answered again"
    return None


def t_bound(df: float, level: float) -> float:
    """Upper quantile of Student's t at a one-sided level."""
    return float(stdtrit(df, 1.0 - level))


def ratio_of_sums(numerator: Array, denominator: Array) -> tuple[float, float]:
    """Sum over sum, and its standard error by linearization over items (Cochran 1977, section 6.4)."""
    count, total = len(numerator), float(denominator.sum())
    ratio = float(numerator.sum()) / total
    residual = numerator - ratio * denominator
    return ratio, float(np.sqrt(count / max(count - 1, 1) * np.sum(residual**2)) / total)


def refuse(metric: str, reason: str, policy: QualityPolicy, *, unit: str, subject: str, samples: int = 0) -> Verdict:
    """The verdict on results that cannot be used at all: a FAIL, because every hole fails closed."""
    text = f"results unusable: {reason}"
    return _undecidable(Status.FAIL, float("nan"), metric, unit, policy, samples, subject, text)


def bounded(
    loss: float,
    error: float,
    low: float,
    high: float,
    policy: QualityPolicy,
    pairing: Pairing,
    *,
    estimate: float,
    baseline: float,
    metric: str,
    unit: str,
    subject: str,
    reason: str | None,
    estimate_error: float = 0.0,
    interval: tuple[float, float] | None = None,
    relative: bool = False,
    against: str = "baseline",
    hidden: Hidden = Hidden(),
    digits: int = 3,
    said: str = "",
) -> Verdict:
    """FAIL where the loss is shown to exceed ``low``, PASS where shown to stay under ``high``; bounds by t.

    What may be ``hidden`` counts as lost for PASS, and as kept for FAIL. ``digits``: decimals of figures in the
    explanation. ``said``: what the items are; then a decided verdict, too, says the smallest loss that they show.
    """
    count = len(pairing.common)
    df = max(count - 1, 1)
    least, most = loss - t_bound(df, policy.alpha) * error, loss + t_bound(df, policy.beta) * error
    visible = low + (t_bound(df, policy.alpha) + float(ndtri(policy.power))) * error
    if interval is None:
        reach = t_bound(df, TAIL) * estimate_error
        interval = (estimate - reach, estimate + reach)
    plain = functools.partial(_plain, digits=digits)
    show = _relative if relative else plain
    text = f"{plain(estimate)} [{plain(interval[0])}, {plain(interval[1])}], {against} {plain(baseline)}: "
    text += f"loss {show(loss)}, between {show(least)} and {show(most)}"
    reason = reason or (hidden.reason if hidden.everything else None)
    unseen = hidden.extent(most)
    warnings = (*pairing.warnings, *([hidden.reason] if unseen > 0 and reason is None else []))
    if reason is not None:
        status = Status.INCONCLUSIVE
        text += f"; undecided: {reason}"
    elif least > low:
        status = Status.FAIL
        text += f", more than the margin of {show(low)}"
    elif most + unseen < high:
        status = Status.PASS
        text += f", less than the {show(high)} tolerated"
    elif most < high:
        status, warnings = Status.INCONCLUSIVE, pairing.warnings
        text += f"; undecided: {hidden.reason}"
    else:
        status = Status.INCONCLUSIVE
        text += f"; undecided: {said or f'{count} items'} could have shown a loss of {show(visible)}"
    if said and status in (Status.PASS, Status.FAIL):
        text += f"; {said} show {show(visible)}"
    name = f"{subject}: " if subject else ""
    worse = float(np.expm1(loss)) if relative else (loss / abs(baseline) if baseline else None)
    return Verdict(
        status=status,
        metric=metric,
        estimate=estimate,
        interval=interval,
        unit=unit,
        baseline=baseline,
        change=worse,
        margin=float(np.expm1(low)) if relative else low,
        alpha=policy.alpha,
        smallest_visible=float(np.expm1(visible)) if relative else visible,
        samples=count,
        explanation=name + text,
        warnings=warnings,
    )


def no_baseline(
    value: float, metric: str, unit: str, policy: QualityPolicy, count: int, subject: str, digits: int = 3
) -> Verdict:
    """The verdict where nothing was accepted before."""
    measured = f"{value:.{digits}f}, " if np.isfinite(value) else ""
    text = f"{measured}no baseline to compare with"
    return _undecidable(Status.NO_BASELINE, value, metric, unit, policy, count, subject, text)


def _undecidable(
    status: Status, value: float, metric: str, unit: str, policy: QualityPolicy, samples: int, subject: str, text: str
) -> Verdict:
    """A verdict without an interval, as there was nothing to compare."""
    name = f"{subject}: " if subject else ""
    return Verdict(
        status=status,
        metric=metric,
        estimate=value,
        interval=(float("nan"), float("nan")),
        unit=unit,
        baseline=None,
        change=None,
        margin=policy.margin,
        alpha=policy.alpha,
        smallest_visible=None,
        samples=samples,
        explanation=name + text,
    )


def _plain(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.000"


def _relative(value: float) -> str:
    return f"{round(100 * float(np.expm1(value)), 2) + 0.0:.2f} %"
