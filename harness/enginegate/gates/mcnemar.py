"""Tests on the items that two engines answer differently, and how many items they need."""

from __future__ import annotations

import numpy as np
import scipy


def mcnemar(losses: int, gains: int) -> float:
    """Exact one-sided p-value of "no loss": P(Binomial(losses + gains, 1/2) >= losses) (McNemar 1947)."""
    return float(scipy.stats.binom.sf(losses - 1, losses + gains, 0.5))


def score_z(losses: int, gains: int, items: int, loss: float) -> float:
    """Score statistic of "the true loss is ``loss``", paired proportions; large when more was lost (Tango 1998).

    Args:
        losses: items the baseline had right and the candidate wrong.
        gains: items the candidate had right and the baseline wrong.
        items: all common items.
        loss: hypothesized difference of the accuracies, in [-1, 1].

    The variance uses the share q of gains that is most likely under the hypothesis, the root of
    2 n q^2 - (b + c + (b - c) d - 2 n d) q - c d (1 - d) = 0.
    """
    if loss < 0:
        return -score_z(gains, losses, items, -loss)
    linear = losses + gains + (losses - gains) * loss - 2 * items * loss
    share = (linear + np.sqrt(max(linear**2 + 8 * items * gains * loss * (1 - loss), 0.0))) / (4 * items)
    variance = items * (2 * share + loss * (1 - loss))
    return float((losses - gains - items * loss) / np.sqrt(variance)) if variance > 0 else 0.0


def loss_bound(losses: int, gains: int, items: int, level: float, *, upper: bool) -> float:
    """One-sided confidence bound of the loss by inverting the score test, by bisection to 1e-7."""
    target = float(scipy.stats.norm.isf(level)) * (-1.0 if upper else 1.0)
    low, high = -1.0, 1.0
    for _ in range(26):
        middle = (low + high) / 2
        if score_z(losses, gains, items, middle) > target:
            low = middle
        else:
            high = middle
    return high if upper else low


def mcnemar_power(items: int, discordance: float, loss: float, alpha: float) -> float:
    """Power of the exact one-sided test to show a true loss.

    Args:
        items: common items.
        discordance: share of items that flip either way without any loss.
        loss: true loss of accuracy, on top of those flips.
        alpha: level of the test.
    """
    share = min(discordance + loss, 1.0)
    if share <= 0:
        return 0.0
    losing = (discordance / 2 + loss) / (discordance + loss)
    centre, spread = items * share, np.sqrt(items * share * (1 - share))
    flips = np.arange(max(0, int(centre - 6 * spread)), min(items, int(centre + 6 * spread) + 1) + 1)
    critical = scipy.stats.binom.isf(alpha, flips, 0.5) + 1
    return float(np.sum(scipy.stats.binom.pmf(flips, items, share) * scipy.stats.binom.sf(critical - 1, flips, losing)))


def visible_loss(items: int, discordance: float, alpha: float, power: float) -> float:
    """Smallest true loss that the exact one-sided test shows with ``power``; 1.0 where there is none."""
    low, high = 0.0, 1.0
    if mcnemar_power(items, discordance, high, alpha) < power:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if mcnemar_power(items, discordance, middle, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def items_needed(discordance: float, loss: float, alpha: float, power: float) -> int:
    """Items with which a true ``loss`` is shown with ``power``, to about 2 %."""
    high = 16
    while mcnemar_power(high, discordance, loss, alpha) < power:
        high *= 2
        if high > 1 << 24:
            return high
    low = high // 2
    while high - low > max(1, high // 64):
        middle = (low + high) // 2
        if mcnemar_power(middle, discordance, loss, alpha) < power:
            low = middle
        else:
            high = middle
    return high
