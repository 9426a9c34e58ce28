"""Items that two engines both answered: pairing by item hash, and the one-sided bounds every paired gate needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import stdtrit

from harness.gates.robust import Array
from harness.gates.verdict import Status, Verdict

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
    name = f"{subject}: " if subject else ""
    return Verdict(
        status=Status.FAIL,
        metric=metric,
        estimate=float("nan"),
        interval=(float("nan"), float("nan")),
        unit=unit,
        baseline=None,
        change=None,
        margin=policy.margin,
        alpha=policy.alpha,
        smallest_visible=None,
        samples=samples,
        explanation=f"{name}results unusable: {reason}",
    )
